"""Lay out the planes of a value: numbers, with the zeros around them that convolutions read as padding."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from st3sweep.sparse_runtime.model_folder import LARGEST, SparseModelError

ROUND = 32  # floats: two of the longest vectors


@dataclass(eq=False)
class Grid:
    """How the planes of a size lie: ``front`` zeros, ``height`` rows of ``pitch`` floats, zeros; ``plane`` in all."""

    height: int
    width: int
    pitch: int = 0
    up: int = 0
    down: int = 0
    side: int = 0
    front: int = 0
    plane: int = 0
    mask: np.ndarray[Any, Any] = field(default_factory=lambda: np.zeros(0, np.int32))

    def lay(self) -> None:
        """Set sizes from what its readers need: rows ``up`` and ``down``, columns at the ``side``."""
        self.pitch = max(self.pitch, self.width + self.side)
        self.front = rounded(self.up * self.pitch + self.side)
        pixels = rounded(self.height * self.pitch)
        self.plane = self.front + pixels + rounded(self.down * self.pitch + self.side)
        if self.plane % 1024 == 0:
            self.plane += ROUND  # planes a power of two apart compete for the same lines of the cache
        if max(self.plane, self.pitch) > LARGEST:
            raise SparseModelError(f"ops.json: a padded plane of {self.height} x {self.width} is too large")
        rows = np.zeros((self.height, self.pitch), np.int32)
        rows[:, : self.width] = -1
        self.mask = np.zeros(pixels, np.int32)
        self.mask[: rows.size] = rows.reshape(-1)


@dataclass(frozen=True)
class Place:
    """A value in the arena: ``start`` of its first plane, ``planes`` of them, of the ``capacity`` that lie there."""

    start: int
    planes: int
    grid: Grid
    capacity: int

    @property
    def origin(self) -> int:
        return self.start + self.grid.front


def rounded(count: int) -> int:
    return (count + ROUND - 1) // ROUND * ROUND


def unlaid(shape: tuple[int, ...]) -> Grid:
    """Return the grid, not laid yet, of a value (C, H, W) or (N,)."""
    height, width = (1, *shape)[-2:]
    return Grid(height, width)
