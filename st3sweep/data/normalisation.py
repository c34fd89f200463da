"""Mean and standard deviation per channel, of pixels scaled to [0, 1]: measured, or the usual constants."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
KNOWN = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "image_folder": _IMAGENET,
    "imagenet": _IMAGENET,
}

_CHUNK = 64  # images at a time: an int64 copy of the whole set could be too large


def mean_and_std(pixels: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute the per-channel mean and standard deviation of ``pixels`` (N, C, H, W), scaled to [0, 1]."""
    chunks = [channel_sums(pixels[start : start + _CHUNK]) for start in range(0, len(pixels), _CHUNK)]
    return from_sums(np.concatenate(chunks), pixels.shape[2] * pixels.shape[3])


def channel_sums(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Sum the pixels, and their squares, of each channel of each image (N, C, H, W): (N, 2, C)."""
    exact = pixels.astype(np.int64)
    return np.stack([exact.sum(axis=(2, 3)), (exact**2).sum(axis=(2, 3))], axis=1)


def from_sums(sums: NDArray[np.int64], pixels_per_image: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute mean and standard deviation from ``channel_sums``; integer sums are exact, so order does not matter."""
    count = len(sums) * pixels_per_image
    total, squares = sums.sum(axis=0)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    deviation = np.maximum(deviation, 1.0)  # at least one grey level: a constant channel must not divide by 0
    return tuple((mean / 255).tolist()), tuple((deviation / 255).tolist())
