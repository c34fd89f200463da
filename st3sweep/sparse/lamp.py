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

import torch
from torch import Tensor

from st3sweep.sparse.flat import Group, groups
from st3sweep.sparse.masks import largest


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
    kept_weights = total - 1 - (below.floor().long() if isinstance(below, Tensor) else math.floor(below))
    rows = [(group, group.sort_layers(group.flatten(weights).abs())) for group in groups(weights)]
    kept = largest([_scores(*row) for row in rows], kept_weights)
    highest = [
        group.reduce_layers(row.masked_fill(mask, 0.0), "max") for (group, row), mask in zip(rows, kept, strict=True)
    ]
    return highest[0] if len(highest) == 1 else torch.cat(highest)


def _scores(group: Group, ordered: Tensor) -> Tensor:
    """Return scores (n,), float64, of magnitudes in ascending order in each layer."""
    squares = ordered.double().square()
    if not group.single:  # one running sum for all layers, which are made of similar size to lose no digits
        highest = group.reduce_layers(squares, "max").clamp(min=torch.finfo(squares.dtype).tiny)
        squares /= group.of_layers(highest)
    return torch.where(squares > 0, squares / group.sums_to_end(squares), 0.0)  # over all that are no smaller
