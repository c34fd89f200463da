"""LAMP: score magnitudes relative to the larger weights of their layer, so that layers compare.

With the weights of a layer in order of magnitude, |θ_1| ≤ … ≤ |θ_n|:

    score_i = θ_i² / Σ_{j ≥ i} θ_j²

The largest weight of a layer scores 1, the maximum: while at least as many weights are kept as there are layers, each
layer keeps one.

Source: Lee et al., ICLR 2021 (arXiv 2010.07611), its score. Differs from the paper: none. Scores and masks are tested
against the authors' code (``tests/data/parity``). With ST-3 the scores decide, at every step, how many weights of a
layer are pruned; the layer's threshold is the magnitude at that count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from st3sweep.sparse import flat
from st3sweep.sparse.flat import Group, groups
from st3sweep.sparse.masks import largest

Floats = NDArray[np.floating]

_CANDIDATES = 1.5  # times as many weights of a layer as are kept if layers are pruned alike


@torch.no_grad()
def lamp_scores(weight: Tensor) -> Tensor:
    """Return the score of each weight, float64 of the shape and layout of ``weight``; 0 for a weight of 0.

    Of equal magnitudes the later one, in the order of ``flatten``, counts as larger.
    """
    ordered, order = weight.reshape(-1).abs().sort(stable=True)
    (group,) = groups([ordered])
    scores = torch.empty_like(ordered, dtype=torch.float64).scatter_(0, order, _scores(group, ordered))
    return torch.empty_like(weight, dtype=torch.float64).copy_(scores.view(weight.shape))


@torch.no_grad()
def lamp_row(group: Group, weights: Sequence[Tensor]) -> Tensor:
    """Return ``lamp_scores`` of the group's layers, of all ``weights``, as a row of it, (n,) float64."""
    if group.single:
        return group.flatten([*weights[: group.first], lamp_scores(weights[group.first])])
    row = group.from_memory_order(group.flatten(weights).abs())
    order = group.order_layers(row)
    scores = torch.empty_like(row, dtype=torch.float64).scatter_(0, order, _scores(group, row[order]))
    return group.to_memory_order(scores)


@torch.no_grad()
def lamp_thresholds(weights: Sequence[Tensor], sparsity: float | Tensor) -> Tensor:
    """Return each layer's threshold, (layers,), for pruning the ``floor((n-1) sparsity) + 1`` lowest of all scores.

    It is the largest |θ| pruned, 0 where none is. ``sparsity`` is in [0, 1): a number, or a 0-d tensor of float64,
    whose range is not checked. No host-device synchronisation on a GPU.
    """
    if not isinstance(sparsity, Tensor) and not 0.0 <= sparsity < 1.0:
        raise ValueError(f"sparsity must be in [0, 1), got {sparsity}")
    total = sum(weight.numel() for weight in weights)
    below = sparsity * (total - 1)
    kept = total - 1 - (below.floor().long() if isinstance(below, Tensor) else math.floor(below))
    on_cpu = not flat.launch_bound(weights[0]) and weights[0].dtype in (torch.float32, torch.float64)
    return thresholds_of_largest(weights, kept) if on_cpu and isinstance(kept, int) else by_sorting(weights, kept)


def by_sorting(weights: Sequence[Tensor], kept_weights: int | Tensor) -> Tensor:
    """Return each layer's threshold if the ``kept_weights`` highest scores of all are kept; sorts all weights."""
    rows = [(group, group.sort_layers(group.flatten(weights).abs())) for group in groups(weights)]
    kept = largest([_scores(*row) for row in rows], kept_weights)
    highest = [
        group.reduce_layers(row.masked_fill(mask, 0.0), "max") for (group, row), mask in zip(rows, kept, strict=True)
    ]
    return highest[0] if len(highest) == 1 else torch.cat(highest)


def thresholds_of_largest(weights: Sequence[Tensor], kept: int) -> Tensor:
    """Return what ``by_sorting`` returns, bit by bit, on a CPU; sorts the largest weights of each layer alone.

    A score depends on larger weights only, and rises with the magnitude, rounding included. So a layer's candidates,
    its largest weights, are enough if the lowest of their scores is below the ``kept``-th highest of all candidates.
    """
    layers = [group.flatten(weights).abs().numpy() for group in groups(weights)]
    share = min(1.0, _CANDIDATES * kept / sum(map(len, layers)))
    tops = [_top(layer, math.ceil(share * len(layer)) + 1) for layer in layers]
    while True:
        scores = [_scores_of_top(top) for top in tops]
        united = np.concatenate(scores)
        cut = np.partition(united, -kept)[-kept] if 0 < kept <= len(united) else (math.inf if kept == 0 else -math.inf)
        short = [
            number
            for number, (layer, top) in enumerate(zip(layers, tops, strict=True))
            if len(top) < len(layer) and not scores[number][0] < cut
        ]
        if not short:
            break
        for number in short:
            tops[number] = _top(layers[number], 2 * len(tops[number]))
    left = kept - sum(len(own) - int(np.searchsorted(own, cut, "right")) for own in scores)
    thresholds = []
    for own, top in zip(scores, tops, strict=True):
        first, last = (int(np.searchsorted(own, cut, side)) for side in ("left", "right"))
        taken = min(left, last - first)  # of equal scores the first are kept
        left -= taken
        pruned = last if taken < last - first else first
        thresholds.append(float(top[pruned - 1]) if pruned else 0.0)
    return weights[0].new_tensor(thresholds)


def _top(layer: Floats, count: int) -> Floats:
    """Return the ``count`` largest of ``layer``, or all, in ascending order."""
    start = len(layer) - count
    return np.sort(layer if start <= 0 else np.partition(layer, start)[start:])


def _scores_of_top(top: Floats) -> Floats:
    """Return the scores, float64, of the largest magnitudes of a layer, in ascending order."""
    squares = np.square(top, dtype=np.float64)
    sums = np.cumsum(squares[::-1])[::-1]
    scores: Floats = np.divide(squares, sums, out=np.zeros_like(squares), where=squares > 0)
    return scores


def _scores(group: Group, ordered: Tensor) -> Tensor:
    """Return scores (n,), float64, of magnitudes in ascending order in each layer."""
    squares = ordered.double().square()
    if not group.single:  # one running sum for all layers, which are made of similar size to lose no digits
        highest = group.reduce_layers(squares, "max").clamp(min=torch.finfo(squares.dtype).tiny)
        squares /= group.of_layers(highest)
    return torch.where(squares > 0, squares / group.sums_to_end(squares), 0.0)  # over all that are no smaller
