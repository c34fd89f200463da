"""Mean and deviation per channel: measured, or the constants that a field agrees on (of pixels scaled to [0, 1])."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
CIFAR100_MEAN, CIFAR100_STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_CHUNK = 64  # images at a time: a float copy of the whole set could be too large


def mean_and_std(pixels: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of all pixels of ``pixels`` (N, C, H, W), per channel. Sums of integers, so exact and in any order the same."""
    channels = pixels.shape[1]
    total, squares = np.zeros(channels, dtype=np.int64), np.zeros(channels, dtype=np.int64)
    for start in range(0, len(pixels), _CHUNK):
        chunk = pixels[start : start + _CHUNK].astype(np.int64)
        total += chunk.sum(axis=(0, 2, 3))
        squares += (chunk**2).sum(axis=(0, 2, 3))
    count = pixels.size // channels
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    deviation = np.maximum(deviation, 1.0)  # one grey level: a channel that never changes must not divide by 0
    return tuple((mean / 255).tolist()), tuple((deviation / 255).tolist())
