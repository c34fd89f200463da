"""The version of the package, available without installing it."""

__version__ = "0.1.0"
