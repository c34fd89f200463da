"""The version of the package, known without its being installed."""

__version__ = "0.1.0"
