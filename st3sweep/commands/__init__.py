"""Implement each command; cli/ declares its arguments."""
