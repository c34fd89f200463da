"""Utilities for all folders: errors, YAML with line numbers, tables of text, files."""
