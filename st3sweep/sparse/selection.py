"""Select order statistics of magnitudes without sorting: by histograms of the bits of floats (radix selection).

Floats that are not negative are ordered as the integers with the same bits. A pass counts the values of one digit, of
some bits, among the numbers that agree with the digits found so far, and so finds the next digit: exact for ties,
zeros, denormals and infinities, after three passes over float32; NaN counts as greater than infinity, as when sorting.
Shapes do not depend on the ranks, which are tensors on the device, and nothing waits for it: a CUDA graph can hold a
selection. On CUDA, Triton kernels do the same with less traffic (``selection_kernels.py``).

``docs/decisions/022-selection.md`` compares this with sorting.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from st3sweep.sparse.flat import constant

_SORTED = 1 << 20  # up to so many, sorting is one operation where passes are dozens
_BITS = 11  # of a digit
_INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}


def two_smallest(row: Tensor, rank: Tensor) -> Tensor:
    """Return the ``rank``-th smallest magnitude of ``row`` (n,), from 0, and the next, the last one twice at the end.

    ``rank`` is a 0-d int64 tensor, in [0, n). Returns (2,); no host-device synchronisation.
    """
    if row.is_cuda and row.dtype == torch.float32 and (by_kernels := kernels(row.device)) is not None:
        return by_kernels(row, rank)
    if len(row) <= _SORTED or row.dtype not in _INTEGERS:
        ranks = rank + constant((0, 1), torch.long, row.device)
        return row.abs().sort().values.index_select(0, ranks.clamp_(max=len(row) - 1))
    return two_by_digits(row, rank)


def two_by_digits(row: Tensor, rank: Tensor) -> Tensor:
    """Return what ``two_smallest`` returns, by histograms in plain torch; ``row`` is of float32 or float64."""
    keys = row.abs().view(_INTEGERS[row.dtype])
    found, ties, left = _digits(keys, rank.view(1), None)
    most = torch.iinfo(keys.dtype).max
    above = torch.where(keys > found, keys, most).amin()  # ``most`` where none is
    following = torch.where((left + 1 < ties) | (above == most), found, above)
    return torch.cat([found, following]).view(row.dtype)


def least_with_mass(row: Tensor, masses: Tensor, mass: Tensor) -> Tensor:
    """Return the least magnitude of ``row`` (n,) such that those up to it have at least ``mass`` together, 0-d.

    ``masses`` (n,), float64, are not negative; ``mass`` is a 0-d float64 tensor, in (0, their sum]. Exact where masses
    are whole numbers. No host-device synchronisation.
    """
    if len(row) <= _SORTED or row.dtype not in _INTEGERS:
        ordered, order = row.abs().sort()
        last = torch.searchsorted(masses.index_select(0, order).cumsum_(0), mass.view(1))
        return ordered.index_select(0, last.clamp_(max=len(row) - 1))[0]
    return least_by_digits(row, masses, mass)


def least_by_digits(row: Tensor, masses: Tensor, mass: Tensor) -> Tensor:
    """Return what ``least_with_mass`` returns, by histograms in plain torch; ``row`` is of float32 or float64."""
    keys = row.abs().view(_INTEGERS[row.dtype])
    found, _, _ = _digits(keys, mass.view(1), masses)
    return found.view(row.dtype)[0]


def _digits(keys: Tensor, rank: Tensor, masses: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return the key of ``rank`` (1,), the count (or mass) of those equal to it, and the rank among these."""
    found, ties = keys.new_zeros(1), rank
    ones = rank.new_ones(1).expand(len(keys)) if masses is None else masses
    high = torch.iinfo(keys.dtype).bits - 1  # the sign is 0
    while high > 0:
        low = max(0, high - _BITS)
        bins = 1 << (high - low)
        # Keys with other digits before are beyond the bins, on either side.
        digit = (keys - found).bitwise_right_shift_(low).clamp_(-1, bins).add_(1)
        counts = rank.new_zeros(bins + 2).scatter_add_(0, digit.long(), ones)[1:-1]
        reached = counts.cumsum(0)
        before = reached <= rank if masses is None else reached < rank
        place = before.sum(0, keepdim=True).clamp_(max=bins - 1)
        rank = rank - torch.where(before, reached, 0).amax()
        ties = counts.index_select(0, place)
        found = found + (place << low).to(keys.dtype)
        high = low
    return found, ties, rank


@cache
def kernels(device: torch.device) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Return the selection by Triton on ``device``; None, with a warning, where it does not run: without a C compiler.

    None without a warning where Triton is not installed.
    """
    if find_spec("triton") is None:
        return None
    try:
        from st3sweep.sparse.selection_kernels import two_smallest as by_kernels

        by_kernels(torch.ones(8, device=device), torch.zeros((), dtype=torch.long, device=device))
    except Exception as error:  # whatever a compiler, a driver or another version of Triton may raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        warnings.warn(f"Triton does not run ({reason}): thresholds take plain torch", RuntimeWarning, stacklevel=2)
        return None
    return by_kernels
