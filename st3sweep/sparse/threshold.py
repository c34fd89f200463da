"""Find one exact threshold for the whole model without sorting its weights.

A sample brackets the threshold, one pass over the weights counts those below the bracket and collects those in it, and
a selection among these few gives the exact value. The pass works in pieces that stay in a core's cache, so it costs
little more than reading the memory once (``benchmarks/threshold.py``). No state is kept between steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from st3sweep.sparse import flat
from st3sweep.sparse.flat import constant, groups
from st3sweep.sparse.selection import least_with_mass, two_smallest

Floats = NDArray[np.floating]

_PIECE = 1 << 17  # weights scanned at a time: 512 KiB of float32, which stay in the second-level cache
_SAMPLE = 1 << 17  # weights that bracket the threshold
_SIGMAS = 5.0  # half the bracket's width, in standard deviations of the sample's quantile
_FOR_THREADS = 1 << 21  # with fewer weights, threads cost more than they save


@torch.no_grad()
def global_threshold(
    weights: Sequence[Tensor], sparsity: float | Tensor, scales: Sequence[float] | None = None
) -> Tensor:
    """Return the ``sparsity``-quantile of all ``|w| c_l`` together, interpolated linearly at ``(n-1) * sparsity``.

    ``weights`` are of any shapes, on one device; ``scales`` holds c_l > 0, one a weight, default 1; ``sparsity`` is in
    [0, 1), a number or, on a GPU, a 0-d tensor of float64 there, whose range is not checked. Returns a 0-d tensor.
    ``floor((n-1) * sparsity) + 1`` scores are not above it when none tie. On a GPU no host-device synchronisation, and
    shapes that do not depend on ``sparsity``.
    """
    scales = scales or [1.0] * len(weights)
    if isinstance(sparsity, Tensor):
        return _quantile_torch(weights, scales, sparsity)
    if not 0.0 <= sparsity < 1.0:
        raise ValueError(f"sparsity must be in [0, 1), got {sparsity}")
    if not _fits_numpy(weights):
        return _quantile_torch(weights, scales, weights[0].new_full((), sparsity, dtype=torch.float64))
    position = (sum(weight.numel() for weight in weights) - 1) * sparsity
    below = math.floor(position)
    lower, upper = _select_numpy(weights, scales, below)
    return torch.lerp(lower, upper, position - below)


@torch.no_grad()
def smallest_magnitudes(weights: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """Return the ``counts``-th smallest magnitude of each layer, from 1, and 0 where that is 0; shape (layers,).

    No host-device synchronisation on a GPU.
    """
    found = []
    for group in groups(weights):
        own = counts[group.layers]
        if group.single and _fits_numpy(weights):
            of_layer = weights[group.layers]
            found.append(_select_numpy(of_layer, [1.0], own[0] - 1)[0] if own[0] else weights[0].new_zeros(()))
        else:
            ordered = group.sort_layers(group.flatten(weights).abs())
            starts = accumulate([0, *group.sizes[:-1]])
            ranks = [start + max(0, count - 1) for start, count in zip(starts, own, strict=True)]
            chosen = ordered[constant(tuple(ranks), torch.long, ordered.device)]
            some = constant(tuple(count > 0 for count in own), torch.bool, chosen.device)
            found.append(torch.where(some, chosen, 0.0))
    return torch.cat([values.view(-1) for values in found])


@torch.no_grad()
def mac_threshold(
    weights: Sequence[Tensor], macs: Sequence[float], budget: float | Tensor, scales: Sequence[float]
) -> Tensor:
    """Return the least threshold on ``|w| c_l`` that leaves at most ``budget`` multiply-accumulates.

    ``macs`` is what one weight of each layer costs, ``budget`` in [0, their sum): it is met to within one weight. It is
    a number, or a 0-d tensor of float64, whose range is not checked. The threshold is a few rounding errors above the
    last score to be pruned, which else could survive a division by c_l. Returns a 0-d tensor, on the weights' device.
    Without host-device synchronisation where ``budget`` is a tensor.
    """
    if isinstance(budget, Tensor):
        return _mac_threshold_torch(weights, macs, budget, scales)
    arrays = [_flat(weight).cpu().numpy() for weight in weights]
    total = sum(cost * len(array) for cost, array in zip(macs, arrays, strict=True))
    if not 0.0 <= budget < total:
        raise ValueError(f"budget must be in [0, {total:g}), got {budget:g}")
    falling = total - budget
    low, high = _bracket(arrays, scales, macs, falling / total)
    scan = _scan(arrays, scales, low, high)
    fallen = sum(cost * count for cost, count in zip(macs, scan.below, strict=True))
    parts = scan.inside
    inside = sum(cost * len(part) for cost, part in zip(macs, parts, strict=True))
    if not fallen < falling <= fallen + inside:  # the bracket missed, or a score is NaN
        parts, fallen = _scores(arrays, scales), 0.0
    scores = np.concatenate(parts)
    order = np.argsort(scores, kind="stable")
    costs = np.repeat(np.asarray(macs, dtype=np.float64), [len(part) for part in parts])
    first = int(np.searchsorted(fallen + np.cumsum(costs[order]), falling))
    margin = 1.0 + 4.0 * float(np.finfo(scores.dtype).eps)
    return weights[0].new_tensor(scores[order[min(first, len(order) - 1)]] * margin)


# -- on a CPU, with numpy: its passes over pieces in cache are faster than torch's over whole layers ----------------


class _Scan(NamedTuple):
    """Result of a scan: for each layer the number of scores below a bracket, and the scores inside it."""

    below: list[int]
    inside: list[Floats]


def _fits_numpy(weights: Sequence[Tensor]) -> bool:
    return not flat.launch_bound(weights[0]) and weights[0].dtype in (torch.float32, torch.float64)


def _select_numpy(weights: Sequence[Tensor], scales: Sequence[float], below: int) -> tuple[Tensor, Tensor]:
    """Return the order statistics ``below`` and ``below + 1``, from 0 (the last one twice at the end)."""
    arrays = [_flat(weight).numpy() for weight in weights]
    n = sum(map(len, arrays))
    ranks = [below, min(below + 1, n - 1)]
    if n > 2 * _SAMPLE:
        scan = _scan(arrays, scales, *_bracket(arrays, scales, [1.0] * len(arrays), (below + 0.5) / n))
        fallen, inside = sum(scan.below), sum(map(len, scan.inside))
        if fallen <= ranks[0] and ranks[1] < fallen + inside:
            return _at([rank - fallen for rank in ranks], scan.inside, weights[0])
    # Few weights, a bracket that missed, or a score that is NaN.
    return _at(ranks, _scores(arrays, scales), weights[0])


def _at(ranks: Sequence[int], parts: Sequence[Floats], like: Tensor) -> tuple[Tensor, Tensor]:
    scores = np.concatenate(parts)
    scores.partition(ranks)
    lower, upper = (like.new_tensor(scores[rank]) for rank in ranks)
    return lower, upper


def _scores(arrays: Sequence[Floats], scales: Sequence[float]) -> list[Floats]:
    return [np.abs(array) * array.dtype.type(scale) for array, scale in zip(arrays, scales, strict=True)]


def _bracket(
    arrays: Sequence[Floats], scales: Sequence[float], masses: Sequence[float], quantile: float
) -> tuple[float, float]:
    """Return two scores that almost surely enclose the ``quantile`` of all, weighted by layer with ``masses``."""
    stride = max(1, sum(map(len, arrays)) // _SAMPLE) | 1  # odd: no kernel position or channel is always skipped
    sample = [array[::stride] for array in arrays]
    scores = np.concatenate(_scores(sample, scales))
    if len(set(masses)) == 1:
        scores.sort()
        mass = np.ones(len(scores))
    else:
        order = np.argsort(scores)
        scores, mass = scores[order], np.repeat(masses, [len(part) for part in sample])[order]
    reached = np.cumsum(mass)
    effective = reached[-1] ** 2 / np.square(mass).sum()  # size of a sample of equal masses with the same variance
    margin = _SIGMAS * math.sqrt(quantile * (1 - quantile) / effective) + 2 / effective
    first = int(np.searchsorted(reached, (quantile - margin) * reached[-1])) - 1
    last = int(np.searchsorted(reached, (quantile + margin) * reached[-1])) + 1
    return float(scores[first]) if first >= 0 else -math.inf, float(scores[last]) if last < len(scores) else math.inf


def _scan(arrays: Sequence[Floats], scales: Sequence[float], low: float, high: float) -> _Scan:
    """Count scores below ``low`` and collect those in [low, high], in one pass over all weights."""
    layers = list(zip(arrays, scales, strict=True))
    if sum(map(len, arrays)) < _FOR_THREADS or torch.get_num_threads() == 1:
        found = [_scan_layer(array, scale, low, high) for array, scale in layers]
    else:
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # numpy releases the GIL
            found = list(pool.map(lambda layer: _scan_layer(layer[0], layer[1], low, high), layers))
    return _Scan([below for below, _ in found], [inside for _, inside in found])


def _scan_layer(array: Floats, scale: float, low: float, high: float) -> tuple[int, Floats]:
    size = min(_PIECE, len(array))
    buffer, under, within = np.empty(size, array.dtype), np.empty(size, bool), np.empty(size, bool)
    factor, bottom, top = (array.dtype.type(value) for value in (scale, low, high))
    below, inside = 0, []
    for start in range(0, len(array), _PIECE):
        piece = array[start : start + _PIECE]
        scores, less, rest = buffer[: len(piece)], under[: len(piece)], within[: len(piece)]
        np.abs(piece, out=scores)
        if scale != 1.0:
            np.multiply(scores, factor, out=scores)
        np.less(scores, bottom, out=less)
        below += int(np.count_nonzero(less))
        np.less_equal(scores, top, out=rest)
        np.greater(rest, less, out=rest)
        inside.append(scores[rest])
    return below, np.concatenate(inside)


# -- anywhere else, with torch, in the form of ``selection.py`` -------------------------------------------------------


def _quantile_torch(weights: Sequence[Tensor], scales: Sequence[float], sparsity: Tensor) -> Tensor:
    scores = _scores_torch(weights, scales)
    position = sparsity * (len(scores) - 1)
    below = position.floor()
    lower, upper = two_smallest(scores, below.long())
    return torch.lerp(lower, upper, (position - below).to(scores.dtype))


def _mac_threshold_torch(
    weights: Sequence[Tensor], macs: Sequence[float], budget: Tensor, scales: Sequence[float]
) -> Tensor:
    scores, cost = _scores_torch(weights, scales), constant(tuple(macs), torch.float64, weights[0].device)
    costs = torch.cat([group.of_layers(cost).expand(group.n) for group in groups(weights)])
    total = sum(cost * weight.numel() for cost, weight in zip(macs, weights, strict=True))
    return least_with_mass(scores, costs, total - budget) * (1.0 + 4.0 * torch.finfo(scores.dtype).eps)


def _scores_torch(weights: Sequence[Tensor], scales: Sequence[float]) -> Tensor:
    """Return the scores of all weights as one row (n,), with the weights' signs; write to nothing of it."""
    if any(scale != 1.0 for scale in scales):
        weights = torch._foreach_mul(list(weights), list(scales))
    rows = [group.flatten(weights) for group in groups(weights)]
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def order_statistic(flat: Tensor, rank: int | Tensor) -> Tensor:
    """Return the ``rank``-th smallest value, from 0.

    For a ``rank`` that is a tensor, values must not be negative; if it is too high, return the greatest.
    On CUDA by topk, which uses the whole device; kthvalue uses one block a row.
    """
    if isinstance(rank, Tensor):
        return two_smallest(flat, rank.clamp(max=len(flat) - 1))[0]
    if not flat.is_cuda:
        return flat.kthvalue(rank + 1).values
    above = flat.numel() - rank
    if above <= rank + 1:
        return flat.topk(above, sorted=False).values.amin()
    return flat.topk(rank + 1, largest=False, sorted=False).values.amax()


def _flat(weight: Tensor) -> Tensor:
    """Return all elements as one row, in memory order; a copy only where they have gaps."""
    weight = weight.detach()
    if weight.is_contiguous() or (weight.dim() == 4 and weight.is_contiguous(memory_format=torch.channels_last)):
        return weight.as_strided((weight.numel(),), (1,))
    return weight.reshape(-1)
