"""Labelled images, fetched by index: held in memory, mapped from a file, or decoded on demand."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from st3sweep.data import decode
from st3sweep.data.counter_rng import CROP, uniforms
from st3sweep.data.threads import fill

_DEVICE_BYTES = 4 * 2**30  # of pixels copied to a GPU as a whole; the rest of its memory is for training


class Images(Protocol):
    """Images of one split; ``sample_ids`` are indices into the dataset before splitting, independent of limits."""

    labels: Tensor  # (N,) int64
    sample_ids: Tensor  # (N,) int64

    def __len__(self) -> int: ...

    def fetch(self, indices: Tensor, seed: int, epoch: int, train: bool) -> Tensor:
        """Return the images at ``indices`` (B,) of this split: uint8 (B, C, H, W)."""
        ...


class ArrayImages:
    """Images in an array: ``rows`` (N,) of ``pixels`` (M, C, H, W) uint8, or all of them if ``rows`` is None.

    ``pixels`` may be a mapped file: it is copied as a whole only to a GPU, once.
    """

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        labels: NDArray[np.int64],
        sample_ids: NDArray[np.int64],
        rows: NDArray[np.int64] | None = None,
    ):
        self.labels = int64(labels)
        self.sample_ids = int64(sample_ids)
        self.pixels = as_tensor(pixels)
        self.rows = None if rows is None else int64(rows)
        self._copies: dict[torch.device, Tensor] = {}

    def __len__(self) -> int:
        return len(self.labels)

    def fetch(self, indices: Tensor, seed: int, epoch: int, train: bool) -> Tensor:  # noqa: ARG002
        """Return images as in ``Images``, on the device of ``indices``, the same in every epoch."""
        if indices.device.type == "cpu":
            return self.pixels[indices if self.rows is None else self.rows[indices]]
        return self.on(indices.device)[indices]

    def fits(self, device: torch.device) -> bool:
        """Whether ``device`` can hold all images of the split; a CPU can, since it maps files of any size."""
        return device.type == "cpu" or len(self) * self.pixels[0].numel() <= _DEVICE_BYTES

    def on(self, device: torch.device) -> Tensor:
        """Return all pixels, (N, C, H, W) uint8, on ``device``."""
        if device not in self._copies:
            self._copies[device] = (self.pixels if self.rows is None else self.pixels[self.rows]).to(device)
        return self._copies[device]


class Photographs(ABC):
    """Images of any size, fetched as (3, image_size, image_size): random crops for training, else centre crops."""

    def __init__(
        self, labels: NDArray[np.int64], sample_ids: NDArray[np.int64], image_size: int, min_scale: float
    ) -> None:
        self.labels = int64(labels)
        self.sample_ids = int64(sample_ids)
        self.image_size = image_size
        self.min_scale = min_scale

    def __len__(self) -> int:
        return len(self.labels)

    def fetch(self, indices: Tensor, seed: int, epoch: int, train: bool) -> Tensor:
        """Return images as in ``Images``, on the CPU. A crop depends on (seed, epoch, sample id). Raises DataError."""
        chosen = indices.tolist()
        if train:
            draws = uniforms(seed, epoch, self.sample_ids[indices], range(CROP, CROP + decode.CROP_DRAWS)).tolist()

            def view(place: int) -> NDArray[np.uint8]:
                return self.random_crop(chosen[place], draws[place])
        else:

            def view(place: int) -> NDArray[np.uint8]:
                return self.centre_crop(chosen[place])

        return torch.from_numpy(fill(view, len(chosen), self.image_size))

    @abstractmethod
    def random_crop(self, index: int, draws: Sequence[float]) -> NDArray[np.uint8]:
        """Return the crop of image ``index`` that ``decode.crop_box`` draws, (3, image_size, image_size)."""

    @abstractmethod
    def centre_crop(self, index: int) -> NDArray[np.uint8]:
        """Return the usual view for evaluation, (3, image_size, image_size): see ``decode.centre_crop``."""


class FileImages(Photographs):
    """Photographs in files on disk, decoded at each fetch."""

    def __init__(
        self,
        paths: list[str],
        labels: NDArray[np.int64],
        sample_ids: NDArray[np.int64],
        image_size: int,
        min_scale: float,
    ):
        super().__init__(labels, sample_ids, image_size, min_scale)
        self.paths = paths

    def random_crop(self, index: int, draws: Sequence[float]) -> NDArray[np.uint8]:
        """See ``Photographs``."""
        return decode.random_crop(self.paths[index], self.image_size, draws, self.min_scale)

    def centre_crop(self, index: int) -> NDArray[np.uint8]:
        """See ``Photographs``."""
        return decode.centre_crop(self.paths[index], self.image_size)


def int64(numbers: NDArray[np.int64]) -> Tensor:
    """Convert ``numbers`` to an int64 tensor."""
    return as_tensor(np.ascontiguousarray(numbers, dtype=np.int64))


def as_tensor(array: NDArray[Any]) -> Tensor:
    """Wrap the array's memory as a tensor. Mapped files are read-only: nothing here writes to the tensor."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(np.ascontiguousarray(array))
