"""Counter-based random numbers: each is a function of (seed, epoch, sample, draw) and of nothing else.

They hash a counter and keep no generator state: rank, device and the rest of the batch do not matter. The hash is
splitmix64 (Steele, Lea, Flood 2014) on int64 tensors, which wrap around.
"""

from __future__ import annotations

import torch
from torch import Tensor

# The draw numbers in use; each purpose needs its own.
SHIFT_DOWN, SHIFT_RIGHT, FLIP, ORDER = 0, 1, 2, 3
CROP = 8  # the first of decode.CROP_DRAWS numbers

_GAMMA = 0x9E3779B97F4A7C15 - 2**64  # splitmix64's constants as signed integers
_MULTIPLIER_1 = 0xBF58476D1CE4E5B9 - 2**64
_MULTIPLIER_2 = 0x94D049BB133111EB - 2**64


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Shift right logically (zeros enter from the left): ``>>`` alone would repeat the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift_right(x, 30)) * _MULTIPLIER_1
    x = (x ^ _shift_right(x, 27)) * _MULTIPLIER_2
    return x ^ _shift_right(x, 31)


def stream(key: int | Tensor, places: Tensor) -> Tensor:
    """Return outputs number ``places`` (int64, from 1) of splitmix64 seeded with ``key``: int64 of the same shape."""
    return _mix(places * _GAMMA + key)


def key_of(seed: int, epoch: int, draw: int) -> int:
    """Return the key of one draw in one epoch, in the range of int64."""
    key = torch.zeros((), dtype=torch.int64, device="cpu")
    for number in (seed, epoch, draw):
        key = _mix(key + number + _GAMMA)
    return int(key)


def bits(seed: int, epoch: int, ids: Tensor, draw: int) -> Tensor:
    """Draw 64 random bits for each of ``ids`` (int64), as int64 of the same shape and device."""
    return stream(key_of(seed, epoch, draw), ids)


def uniform(seed: int, epoch: int, ids: Tensor, draw: int) -> Tensor:
    """Draw float32 in [0, 1) for each of ``ids`` (int64): multiples of 2**-24, so the same on every device."""
    return uniform_of(key_of(seed, epoch, draw), ids)


def uniform_of(key: int | Tensor, ids: Tensor) -> Tensor:
    """Return ``uniform`` of the draw whose ``key_of`` is given, a number or a 0-d int64 tensor on the ids' device."""
    return _shift_right(stream(key, ids), 40).float() * 2.0**-24


def permutation(seed: int, epoch: int, count: int) -> Tensor:
    """Return the permutation of the ``count`` training images in ``epoch``: (count,) int64 on the CPU."""
    return torch.argsort(bits(seed, epoch, torch.arange(count), ORDER))


def uniforms(seed: int, epoch: int, ids: Tensor, draws: range) -> Tensor:
    """Return ``uniform`` for each of ``draws`` at once: (B, len(draws)) on the CPU."""
    numbers = torch.tensor(draws)
    keys = torch.zeros_like(numbers)
    for number in (seed, epoch, numbers):
        keys = _mix(keys + number + _GAMMA)
    return _shift_right(_mix(ids[:, None] * _GAMMA + keys), 40).float() * 2.0**-24
