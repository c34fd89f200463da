"""Rewire masks: drop the smallest weights, and grow as many where the gradient is largest."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from st3sweep.sparse import flat
from st3sweep.sparse.flat import clear_, groups
from st3sweep.sparse.masked_method import momentum_of
from st3sweep.sparse.masks import among, largest_in_layers
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
    sizes = [weight.numel() for weight in weights]
    drops = [
        math.floor(fraction * count + 0.5) if count < size else 0 for count, size in zip(counts, sizes, strict=True)
    ]
    moving = [  # in one row all layers, of which the order in memory is known
        index
        for index, (weight, drop) in enumerate(zip(weights, drops, strict=True))
        if weight.grad is not None and (drop > 0 or flat.launch_bound(weight))
    ]
    moved, own = list(masks), [weights[index] for index in moving]
    before, gradients = [masks[index] for index in moving], [weight.grad for weight in own if weight.grad is not None]
    dropped = [drops[index] for index in moving]
    left = [counts[index] - drops[index] for index in moving]
    newborn: list[Tensor] = []
    for group in groups(own):
        live = group.flatten(before)
        kept = largest_in_layers(group, among(group.flatten(own).abs(), live), left)
        grown = largest_in_layers(group, among(group.flatten(gradients).abs(), ~kept), dropped)
        newborn += group.unflatten(grown & ~live)
        for index, mask in zip(moving[group.layers], group.unflatten(kept | grown), strict=True):
            moved[index] = mask
    clear_(own, newborn)
    clear_([momentum_of(weight, optimizer) for weight in own], newborn)
    return moved
