"""Labelled images that can be fetched by index: held in memory, or decoded from their files when asked for."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from st3sweep.data import decode
from st3sweep.data.draws import CROP, uniform


class Images(Protocol):
    """One split. ``sample_ids`` are indices into the dataset before it was split, so that limits do not move them."""

    labels: Tensor  # (N,) int64
    sample_ids: Tensor  # (N,) int64

    def __len__(self) -> int: ...

    def fetch(self, indices: Tensor, seed: int, epoch: int, train: bool) -> Tensor:
        """Images at ``indices`` (B,) of this split: uint8 (B, C, H, W)."""
        ...


class ArrayImages:
    """All images in memory, ``pixels`` (N, C, H, W) uint8. A GPU that asks gets its own copy, once."""

    def __init__(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64], sample_ids: NDArray[np.int64]):
        self.labels = torch.from_numpy(np.ascontiguousarray(labels, dtype=np.int64))
        self.sample_ids = torch.from_numpy(np.ascontiguousarray(sample_ids, dtype=np.int64))
        self._copies = {torch.device("cpu"): torch.from_numpy(np.ascontiguousarray(pixels))}

    def __len__(self) -> int:
        return len(self.labels)

    def fetch(self, indices: Tensor, seed: int, epoch: int, train: bool) -> Tensor:  # noqa: ARG002
        """As of ``Images``, on the device of ``indices``; the same image in every epoch."""
        return self.on(indices.device)[indices]

    def on(self, device: torch.device) -> Tensor:
        """All pixels, (N, C, H, W) uint8, on ``device``."""
        if device not in self._copies:
            self._copies[device] = self._copies[torch.device("cpu")].to(device)
        return self._copies[device]


class FileImages:
    """Images that stay on disk, (3, image_size, image_size) when fetched: random crops to train, else the centre."""

    def __init__(
        self,
        paths: list[str],
        labels: NDArray[np.int64],
        sample_ids: NDArray[np.int64],
        image_size: int,
        min_scale: float,
    ):
        self.paths = paths
        self.labels = torch.from_numpy(np.ascontiguousarray(labels, dtype=np.int64))
        self.sample_ids = torch.from_numpy(np.ascontiguousarray(sample_ids, dtype=np.int64))
        self.image_size = image_size
        self.min_scale = min_scale

    def __len__(self) -> int:
        return len(self.paths)

    def fetch(self, indices: Tensor, seed: int, epoch: int, train: bool) -> Tensor:
        """As of ``Images``, on the CPU. A crop depends on (seed, epoch, sample id) only. DataError names a bad file."""
        paths = [self.paths[index] for index in indices.tolist()]
        if train:
            ids = self.sample_ids[indices]
            by_draw = [uniform(seed, epoch, ids, CROP + draw) for draw in range(decode.CROP_DRAWS)]
            draws = torch.stack(by_draw, dim=1).tolist()  # (B, CROP_DRAWS)

            def view(index: int) -> NDArray[np.uint8]:
                return decode.random_crop(paths[index], self.image_size, draws[index], self.min_scale)
        else:

            def view(index: int) -> NDArray[np.uint8]:
                return decode.centre_crop(paths[index], self.image_size)

        return torch.from_numpy(decode.decode_all(view, len(paths), self.image_size))
