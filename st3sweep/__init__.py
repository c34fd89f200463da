"""st3sweep: the best accuracy for every GFLOP that a convolutional network may spend."""

__version__ = "0.1.0"
