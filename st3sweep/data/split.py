"""Which images of a training set are trained on and which are kept for validation.

Every dataset orders its training set first (as it lies, or by a fixed permutation); then the last ones of that order
are the validation images. The seed of the permutation is a constant: trials with other seeds share their split.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from st3sweep.data.records import DataError
from st3sweep.trial.data import DataConfig

_SEED = 0


class Parts(NamedTuple):
    """Indices into the dataset's own training set, int64."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]


def sizes(spec: DataConfig, images: int) -> tuple[int, int]:
    """How many of ``images`` are trained on and validated on; DataError where the settings do not fit them."""
    asked = spec.validation
    validation = asked if isinstance(asked, int) else round(asked * images)
    if validation < 1:
        raise DataError("data.validation", f"{asked:g} of {images} training images is less than one image")
    if validation >= images:
        raise DataError(
            "data.validation",
            f"{validation} images asked for, but the training set has {images}: none left to train on",
        )
    left = images - validation
    if spec.train_limit is not None and spec.train_limit > left:
        raise DataError(
            "data.train_limit",
            f"{spec.train_limit} images asked for, but {left} are left to train on "
            f"({images} in the training set, {validation} of them for validation)",
        )
    return spec.train_limit or left, validation


def parts(spec: DataConfig, order: NDArray[np.int64]) -> Parts:
    """The last of ``order`` for validation, the first of the rest (up to ``train_limit``) for training."""
    train, validation = sizes(spec, len(order))
    return Parts(order[:train], order[len(order) - validation :])


def shuffled(images: int) -> NDArray[np.int64]:
    """A fixed permutation, for sets that may be sorted by class. RandomState's stream is frozen across versions."""
    return np.random.RandomState(_SEED).permutation(images).astype(np.int64)


def stratified(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """A fixed permutation in which every run of neighbours holds the classes in their overall proportions.

    The k-th of a class's n images (in shuffled order) is placed at (k + 1/2) / n of the way.
    """
    order = shuffled(len(labels))
    place = np.empty(len(labels))
    for label in np.unique(labels):
        of_class = labels[order] == label
        place[of_class] = (np.arange(of_class.sum()) + 0.5) / of_class.sum()
    return order[np.argsort(place, kind="stable")]
