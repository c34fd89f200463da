"""st3sweep: the best accuracy for every GFLOP that a convolutional network may spend."""

from st3sweep.util.version import __version__

__all__ = ["__version__"]
