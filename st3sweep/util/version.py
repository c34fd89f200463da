"""The version of the package, available without installing it."""

__version__ = "0.2.0.dev0"
