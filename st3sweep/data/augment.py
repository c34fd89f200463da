"""Augment and normalise whole batches on their device.

The augmentation of an image is a function of (seed, epoch, its sample id): see ``counter_rng.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from st3sweep.data.counter_rng import FLIP, SHIFT_DOWN, SHIFT_RIGHT, key_of, uniform, uniform_of

__all__ = ["Keys", "flip", "normalise", "shift_and_flip", "uniform"]


class Keys(NamedTuple):
    """The keys of an epoch's draws: numbers, or 0-d int64 tensors on the images' device."""

    down: int | Tensor
    right: int | Tensor
    flip: int | Tensor

    @staticmethod
    def of(seed: int, epoch: int) -> Keys:
        return Keys(*(key_of(seed, epoch, draw) for draw in (SHIFT_DOWN, SHIFT_RIGHT, FLIP)))


def shift_and_flip(
    images: Tensor, ids: Tensor, keys: Keys, padding: int, fill: Literal["zero", "edge"], flip: bool
) -> Tensor:
    """Pad each image by ``padding`` pixels, crop it back to (H, W) at random, and flip it with probability 1/2.

    ``images`` (B, C, H, W) uint8, ``ids`` (B,) int64 on the same device. The padding is 0 (black, before
    normalisation) or repeats the edge; ``flip`` False leaves out the flip. Returns a new tensor like ``images``.
    """
    batch, channels, height, width = images.shape
    device = images.device
    positions = 2 * padding + 1
    down = (uniform_of(keys.down, ids) * positions).long() - padding
    right = (uniform_of(keys.right, ids) * positions).long() - padding
    columns = torch.arange(width, device=device).expand(batch, width)
    if flip:
        columns = torch.where(_mirrored(ids, keys)[:, None], width - 1 - columns, columns)
    columns = columns + right[:, None]  # (B, W): the source column of each pixel
    rows = torch.arange(height, device=device) + down[:, None]  # (B, H)
    pixels = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]  # (B, H, W)
    # One gather of flat indices; indexing with four tensors takes several times as long on a CPU.
    sources = pixels.view(batch, 1, height * width).expand(batch, channels, height * width)
    shifted = images.flatten(2).gather(2, sources).view(images.shape)
    if fill == "edge":
        return shifted
    inside_rows, inside_columns = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    return shifted * (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]


def flip(images: Tensor, ids: Tensor, keys: Keys) -> Tensor:
    """Flip each of ``images`` (B, C, H, W) left to right with probability 1/2."""
    mirrored = _mirrored(ids, keys)
    if images.device.type == "cpu":  # a third of the time or less; on a GPU tolist() is a host-device synchronisation
        return torch.stack(
            [image.flip(2) if yes else image for image, yes in zip(images, mirrored.tolist(), strict=True)]
        )
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def _mirrored(ids: Tensor, keys: Keys) -> Tensor:
    return uniform_of(keys.flip, ids) < 0.5


def normalise(images: Tensor, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> Tensor:
    """Normalise (B, C, H, W) to float32 by the per-channel ``mean`` and ``std``; uint8 is scaled to [0, 1] before.

    For many batches pass them as tensors on the images' device: plain numbers are copied there each time.
    """
    mean = torch.as_tensor(mean, dtype=torch.float32, device=images.device).view(-1, 1, 1)
    std = torch.as_tensor(std, dtype=torch.float32, device=images.device).view(-1, 1, 1)
    # In place: three more copies of the batch take longer than the arithmetic itself.
    scaled = images.float().div_(255) if images.dtype == torch.uint8 else images.to(torch.float32, copy=True)
    return scaled.sub_(mean).div_(std)
