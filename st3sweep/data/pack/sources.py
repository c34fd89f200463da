"""Sources of a pack: the images of a dataset before splitting, one by one and in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Make = Callable[[], NDArray[np.uint8]]  # reads, decodes and resizes one image; raises BadImage if it is unreadable


@dataclass(frozen=True)
class Source:
    """One official split: ``labels`` (N,), and ``makes()`` yields one function an image, in the order of the labels."""

    labels: NDArray[np.int64]
    makes: Callable[[], Iterator[Make]]


@dataclass(frozen=True)
class Sources:
    """A dataset with images of (3, ``square``, ``square``), or of (H, W, 3) of any size if ``square`` is None."""

    classes: int
    square: int | None
    train: Source
    test: Source | None
