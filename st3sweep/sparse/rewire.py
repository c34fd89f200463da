"""Rewire masks: drop the smallest weights, and grow as many where the gradient is largest."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from st3sweep.sparse.masked_method import momentum_of
from st3sweep.sparse.masks import among, largest
from st3sweep.sparse.method import Weights


@torch.no_grad()
def rewired(
    weights: Weights, masks: Sequence[Tensor], counts: Sequence[int], fraction: float, optimizer: torch.optim.Optimizer
) -> list[Tensor]:
    """Return ``masks`` (bool) after dropping, and growing, ``fraction * counts`` weights in each layer, rounded.

    ``counts`` are the live weights of each layer, and do not change. Drops the smallest |θ|, grows the largest
    |``grad``| among all weights not kept; those that were not live before get weight 0 and momentum 0. A layer without
    a gradient keeps its mask.
    """
    moved = []
    for weight, mask, count in zip(weights, masks, counts, strict=True):
        drop = math.floor(fraction * count + 0.5)
        if weight.grad is None or drop == 0 or count == mask.numel():
            moved.append(mask)
            continue
        (kept,) = largest([among(weight.abs(), mask)], count - drop)
        (grown,) = largest([among(weight.grad.abs(), ~kept)], drop)
        _start_anew(weight, grown & ~mask, optimizer)
        moved.append(kept | grown)
    return moved


def _start_anew(weight: Tensor, newborn: Tensor, optimizer: torch.optim.Optimizer) -> None:
    weight.masked_fill_(newborn, 0.0)
    if (momentum := momentum_of(weight, optimizer)) is not None:
        momentum.masked_fill_(newborn, 0.0)
