"""What a pack is made from: the images of a dataset before they are split, one by one and in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Make = Callable[[], NDArray[np.uint8]]  # reads, decodes and resizes one image; BadImage if it is none


@dataclass(frozen=True)
class Source:
    """One official split: ``labels`` (N,), and ``makes()`` gives N functions, in the order of the labels."""

    labels: NDArray[np.int64]
    makes: Callable[[], Iterator[Make]]


@dataclass(frozen=True)
class Sources:
    """A dataset. Each image is made as (3, ``square``, ``square``), or where that is None as (H, W, 3) of any size."""

    classes: int
    square: int | None
    train: Source
    test: Source | None
