"""Split a training set into training and validation images.

Every dataset orders its training set first (in file order, or by a fixed permutation); the last images of that order
are for validation. The permutation's seed is a constant: trials with different seeds share their split.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from st3sweep.data.records import DataError
from st3sweep.trial.data import DataConfig

_SEED = 0


class Parts(NamedTuple):
    """Indices into the official training set, int64."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]


def sizes(spec: DataConfig, images: int) -> tuple[int, int]:
    """Return how many of ``images`` are for training and for validation. Raises DataError if there are too few."""
    asked = spec.validation
    validation = asked if isinstance(asked, int) else round(asked * images)
    if validation < 1:
        raise DataError("data.validation", f"{asked:g} of {images} training images is less than one image")
    if validation >= images:
        raise DataError(
            "data.validation",
            f"{validation} images requested, but the training set has {images}: none left to train on",
        )
    left = images - validation
    if spec.train_limit is not None and spec.train_limit > left:
        raise DataError(
            "data.train_limit",
            f"{spec.train_limit} images requested, but {left} are left to train on "
            f"({images} in the training set, {validation} of them for validation)",
        )
    return spec.train_limit or left, validation


def parts(spec: DataConfig, order: NDArray[np.int64]) -> Parts:
    """Split ``order``: its last indices for validation, the first of the rest (up to ``train_limit``) for training."""
    train, validation = sizes(spec, len(order))
    return Parts(order[:train], order[len(order) - validation :])


def shuffled(images: int) -> NDArray[np.int64]:
    """Return a fixed permutation of ``images`` indices. RandomState's stream is frozen across numpy's versions."""
    return np.random.RandomState(_SEED).permutation(images).astype(np.int64)


def stratified(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a fixed permutation in which every run of neighbours has the overall class proportions.

    The k-th of a class's n images (in shuffled order) gets the sort key (k + 1/2) / n.
    """
    order = shuffled(len(labels))
    place = np.empty(len(labels))
    for label in np.unique(labels):
        of_class = labels[order] == label
        place[of_class] = (np.arange(of_class.sum()) + 0.5) / of_class.sum()
    return order[np.argsort(place, kind="stable")]
