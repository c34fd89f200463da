"""st3sweep: find the best accuracy at every GFLOP budget of a convolutional network."""

from st3sweep.util.version import __version__

__all__ = ["__version__"]
