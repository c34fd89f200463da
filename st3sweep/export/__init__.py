"""Trained sparse networks as files that can be deployed."""
