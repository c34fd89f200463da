"""Random numbers that are a function of (seed, epoch, sample, draw) and of nothing else.

They come from hashing a counter, not from a generator with a state: which rank asks, on which device, and what else
is in the batch do not matter. The hash is splitmix64 (Steele, Lea, Flood 2014) on int64 tensors, which wrap around.
"""

from __future__ import annotations

import torch
from torch import Tensor

# The draw numbers in use; two purposes must not share one.
SHIFT_DOWN, SHIFT_RIGHT, FLIP, ORDER = 0, 1, 2, 3
CROP = 8  # and those that follow, decode.CROP_DRAWS of them

_GAMMA = 0x9E3779B97F4A7C15 - 2**64  # the constants as signed numbers
_MULTIPLIER_1 = 0xBF58476D1CE4E5B9 - 2**64
_MULTIPLIER_2 = 0x94D049BB133111EB - 2**64


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Shifts zeros in: ``>>`` alone would repeat the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift_right(x, 30)) * _MULTIPLIER_1
    x = (x ^ _shift_right(x, 27)) * _MULTIPLIER_2
    return x ^ _shift_right(x, 31)


def stream(key: int, places: Tensor) -> Tensor:
    """The outputs of splitmix64 seeded with ``key`` at ``places`` (1 is its first): int64 of the shape of places."""
    return _mix(places * _GAMMA + key)


def bits(seed: int, epoch: int, ids: Tensor, draw: int) -> Tensor:
    """64 random bits for each of ``ids`` (int64), as int64 of the same shape and device."""
    key = torch.zeros((), dtype=torch.int64, device="cpu")
    for number in (seed, epoch, draw):
        key = _mix(key + number + _GAMMA)
    return stream(int(key), ids)


def uniform(seed: int, epoch: int, ids: Tensor, draw: int) -> Tensor:
    """float32 in [0, 1) for each of ``ids`` (int64): multiples of 2**-24, so the same on every device."""
    return _shift_right(bits(seed, epoch, ids, draw), 40).float() * 2.0**-24


def permutation(seed: int, epoch: int, count: int) -> Tensor:
    """The order in which the ``count`` images of a training set are seen in ``epoch``: (count,) int64 on the CPU."""
    return torch.argsort(bits(seed, epoch, torch.arange(count), ORDER))


def uniforms(seed: int, epoch: int, ids: Tensor, draws: range) -> Tensor:
    """``uniform`` for each of ``draws`` at once: (B, len(draws)), on the CPU."""
    numbers = torch.tensor(draws)
    keys = torch.zeros_like(numbers)
    for number in (seed, epoch, numbers):
        keys = _mix(keys + number + _GAMMA)
    return _shift_right(_mix(ids[:, None] * _GAMMA + keys), 40).float() * 2.0**-24
