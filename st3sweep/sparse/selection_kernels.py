"""Select by Triton kernels: the form for CUDA of ``selection.two_smallest``, exact, in one read of a large row.

A sample brackets the two values, one pass over the row counts the keys below the bracket and gathers those in it, and a
radix selection among these finishes. Where the bracket missed, or holds more than the buffer, the selection reads the
whole row instead: the kernels decide, not the host, so that a CUDA graph holds all of it. Keys are the bits of floats
without the sign. A radix selection takes four passes over digits of 8 bits; each program finds again, from the
histograms of the earlier passes, which digits these chose.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

_DIRECT = 1 << 20  # a row of up to this size is read whole in each pass
_SAMPLE = 1 << 16
_SIGMAS = 5.0  # half the bracket's width, in standard deviations of the sample's quantile
_BLOCK = 4096
_PROGRAMS = 1024  # of a pass, at most; each takes several blocks of a large row


def two_smallest(row: Tensor, rank: Tensor) -> Tensor:
    """Return the ``rank``-th smallest magnitude of ``row`` (n,), from 0, and the next, the last one twice at the end.

    ``row`` is of float32, ``rank`` a 0-d int64 tensor on the same device.
    """
    with torch.cuda.device_of(row):  # Triton launches on the current device
        return _two_smallest(row.view(torch.int32), rank, len(row)).view(torch.float32)


def _two_smallest(keys: Tensor, rank: Tensor, n: int) -> Tensor:
    plan = rank.new_empty(4)  # two ranks, number of keys, whether they are gathered
    if n <= _DIRECT:
        _plan_all[(1,)](rank, plan, n)
        return _select(keys, keys, plan, n, 1)
    stride = (n // _SAMPLE) | 1  # odd: no kernel position or channel is always skipped
    size = triton.cdiv(n, stride)
    _plan_sample[(1,)](rank, plan, n, size, _SIGMAS / math.sqrt(size))
    bracket = _select(keys, keys, plan, size, stride)
    gathered, counts = keys.new_empty(n // 8), plan.new_zeros(2)  # keys below the bracket, and in it
    _gather[(_programs(n),)](keys, bracket, gathered, counts, n, len(gathered), BLOCK=_BLOCK)
    _plan_gathered[(1,)](rank, plan, counts, n, len(gathered))
    return _select(keys, gathered, plan, n, 1)


def _select(keys: Tensor, gathered: Tensor, plan: Tensor, size: int, stride: int) -> Tensor:
    """Return the keys at the ranks of ``plan``, of at most ``size``: every ``stride``-th of ``keys``, or ``gathered``.

    Returns (2,) int32.
    """
    histograms, found = keys.new_zeros(2, 4, 256), keys.new_empty(2)
    for digit in range(4):
        _count[(_programs(size), 2)](keys, gathered, plan, histograms, stride, DIGIT=digit, BLOCK=_BLOCK)
    _write[(2,)](plan, histograms, found)
    return found


def _programs(size: int) -> int:
    return int(min(_PROGRAMS, triton.cdiv(size, _BLOCK)))


@triton.jit
def _plan_all(rank, plan, n):
    wanted = tl.load(rank)
    tl.store(plan, wanted)
    tl.store(plan + 1, tl.minimum(wanted + 1, n - 1))
    tl.store(plan + 2, n)
    tl.store(plan + 3, 0)


@triton.jit
def _plan_sample(rank, plan, n, size, deviation):
    """Plan to select the ends of a bracket; a rank outside of the sample stands for an end without limit."""
    quantile = (tl.load(rank).to(tl.float32) + 0.5) / n
    margin = deviation * tl.sqrt(tl.maximum(quantile * (1.0 - quantile), 0.0)) + 2.0 / size
    tl.store(plan, tl.floor((quantile - margin) * size).to(tl.int64) - 1)
    tl.store(plan + 1, tl.floor((quantile + margin) * size).to(tl.int64) + 1)
    tl.store(plan + 2, size)
    tl.store(plan + 3, 0)


@triton.jit
def _plan_gathered(rank, plan, counts, n, capacity):
    wanted = tl.load(rank)
    following = tl.minimum(wanted + 1, n - 1)
    below = tl.load(counts)
    inside = tl.load(counts + 1)
    enclosed = (below <= wanted) & (following < below + inside) & (inside <= capacity)
    tl.store(plan, tl.where(enclosed, wanted - below, wanted))
    tl.store(plan + 1, tl.where(enclosed, following - below, following))
    tl.store(plan + 2, tl.where(enclosed, inside, n))
    tl.store(plan + 3, enclosed.to(tl.int64))


@triton.jit
def _narrowed(histogram, key, rank):
    """Return ``key`` with the digit at ``rank`` behind it, and the rank among the keys with this digit."""
    reached = tl.cumsum(tl.load(histogram + tl.arange(0, 256)), 0)
    before = reached <= rank
    digit = tl.minimum(tl.sum(before.to(tl.int32), 0), 255)
    return (key << 8) | digit, rank - tl.max(tl.where(before, reached, 0), 0)


@triton.jit
def _count(keys, gathered, plan, histograms, stride, DIGIT: tl.constexpr, BLOCK: tl.constexpr):
    """Count the values of a digit, from the highest, of the keys that have the digits chosen before."""
    which = tl.program_id(1)
    histogram = histograms + which * 1024
    rank = tl.load(plan + which)
    size = tl.load(plan + 2)
    step = stride
    source = keys
    if tl.load(plan + 3) != 0:
        source = gathered
    chosen = 0
    for digit in tl.static_range(DIGIT):
        chosen, rank = _narrowed(histogram + digit * 256, chosen, rank)
    counted = tl.zeros((256,), tl.int32)
    for block in range(tl.program_id(0), tl.cdiv(size, BLOCK), tl.num_programs(0)):
        place = block * BLOCK + tl.arange(0, BLOCK).to(tl.int64)
        key = tl.load(source + place * step, mask=place < size, other=0) & 0x7FFFFFFF
        alike = place < size
        if DIGIT > 0:
            alike = alike & ((key >> (32 - 8 * DIGIT)) == chosen)
        counted += tl.histogram((key >> (24 - 8 * DIGIT)) & 255, 256, mask=alike)
    tl.atomic_add(histogram + DIGIT * 256 + tl.arange(0, 256), counted, mask=counted > 0)


@triton.jit
def _write(plan, histograms, found):
    which = tl.program_id(0)
    rank = tl.load(plan + which)
    size = tl.load(plan + 2)
    key = 0
    left = rank
    for digit in tl.static_range(4):
        key, left = _narrowed(histograms + which * 1024 + digit * 256, key, left)
    key = tl.where(rank < 0, -1, tl.where(rank >= size, 0x7FFFFFFF, key))
    tl.store(found + which, key)


@triton.jit
def _gather(keys, bracket, gathered, counts, n, capacity, BLOCK: tl.constexpr):
    """Count the keys below the bracket and in it, and store the latter, in any order, as far as there is room."""
    low = tl.load(bracket)
    high = tl.load(bracket + 1)
    fallen = 0
    for block in range(tl.program_id(0), tl.cdiv(n, BLOCK), tl.num_programs(0)):
        place = block * BLOCK + tl.arange(0, BLOCK)
        key = tl.load(keys + place, mask=place < n, other=0) & 0x7FFFFFFF
        fallen += tl.sum(((key < low) & (place < n)).to(tl.int32), 0)
        inside = ((key >= low) & (key <= high) & (place < n)).to(tl.int32)
        start = tl.atomic_add(counts + 1, tl.sum(inside, 0).to(tl.int64))
        slot = start + tl.cumsum(inside, 0) - 1
        tl.store(gathered + slot, key, mask=(inside > 0) & (slot < capacity))
    tl.atomic_add(counts, fallen.to(tl.int64))
