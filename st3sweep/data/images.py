"""Labelled images that can be fetched by index: held in memory or mapped from a file, or decoded when asked for."""

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

_DEVICE_BYTES = 4 * 2**30  # of pixels that a GPU is given as a whole; the rest of its memory is for training


class Images(Protocol):
    """One split. ``sample_ids`` are indices into the dataset before it was split, so that limits do not move them."""

    labels: Tensor  # (N,) int64
    sample_ids: Tensor  # (N,) int64

    def __len__(self) -> int: ...

    def fetch(self, indices: Tensor, seed: int, epoch: int, train: bool) -> Tensor:
        """Images at ``indices`` (B,) of this split: uint8 (B, C, H, W)."""
        ...


class ArrayImages:
    """The images at ``rows`` (N,) of ``pixels`` (M, C, H, W) uint8, all of them where ``rows`` is None.

    ``pixels`` may be a mapped file: it is never copied as a whole, but for a GPU that asks: it gets its own copy, once.
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
        """As of ``Images``, on the device of ``indices``; the same image in every epoch."""
        if indices.device.type == "cpu":
            return self.pixels[indices if self.rows is None else self.rows[indices]]
        return self.on(indices.device)[indices]

    def fits(self, device: torch.device) -> bool:
        """Whether ``device`` can hold all images of the split: the machine's own memory maps a file of any size."""
        return device.type == "cpu" or len(self) * self.pixels[0].numel() <= _DEVICE_BYTES

    def on(self, device: torch.device) -> Tensor:
        """All pixels, (N, C, H, W) uint8, on ``device``."""
        if device not in self._copies:
            self._copies[device] = (self.pixels if self.rows is None else self.pixels[self.rows]).to(device)
        return self._copies[device]


class Photographs(ABC):
    """Images of any size, (3, image_size, image_size) when fetched: random crops to train, else the centre."""

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
        """As of ``Images``, on the CPU. A crop depends on (seed, epoch, sample id) only. DataError names a bad file."""
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
        """The part of image ``index`` that ``decode.crop_box`` draws, (3, image_size, image_size)."""

    @abstractmethod
    def centre_crop(self, index: int) -> NDArray[np.uint8]:
        """The usual view for evaluation, (3, image_size, image_size): see ``decode.centre_crop``."""


class FileImages(Photographs):
    """Photographs that stay on disk, in files that are decoded at each fetch."""

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
    """The same numbers as a tensor."""
    return as_tensor(np.ascontiguousarray(numbers, dtype=np.int64))


def as_tensor(array: NDArray[Any]) -> Tensor:
    """The same memory as a tensor. A mapped file cannot be written to: nothing here changes what it is given."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(np.ascontiguousarray(array))
