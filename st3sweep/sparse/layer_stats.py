"""Measure each layer's sparsity: zeros, dead channels, mask changes, distance of θ̂ from θ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from st3sweep.sparse.method import Method, Weights


@dataclass(frozen=True)
class LayerStats:
    """Statistics of one layer: ``alive`` non-zeros of ``numel`` weights in θ̂, mask changes and distance from θ.

    ``dead_channels`` are output channels (axis 0) without a non-zero; ``flipped`` counts weights whose mask has
    changed since the earlier one; ``distance`` is |θ̂ - θ| and ``norm`` |θ|, Euclidean. ``threshold`` is None where the
    method has none.
    """

    numel: int
    alive: int
    dead_channels: int
    flipped: int
    distance: float
    norm: float
    threshold: float | None = None

    @property
    def density(self) -> float:
        return self.alive / self.numel

    @property
    def flip_rate(self) -> float:
        return self.flipped / self.numel

    @property
    def mismatch(self) -> float:
        """Return |θ̂ - θ| / |θ|; 0 for a layer of zeros."""
        return self.distance / self.norm if self.norm else 0.0


@torch.no_grad()
def layer_stats(
    weights: Weights, method: Method, earlier: Sequence[Tensor] | None
) -> tuple[list[LayerStats], list[Tensor]]:
    """Return statistics and mask (bool) of every layer; ``earlier`` masks, or None where nothing was pruned yet.

    One host-device synchronisation.
    """
    sparse = method.sparsify(weights)
    masks = [weight != 0 for weight in (weights if sparse is None else sparse)]
    rows = []
    for index, (weight, mask) in enumerate(zip(weights, masks, strict=True)):
        before = torch.ones_like(mask) if earlier is None else earlier[index]
        theta = weight.detach()
        moved = torch.zeros_like(theta) if sparse is None else sparse[index] - theta
        numbers = [mask.sum(), (~mask.flatten(1).any(1)).sum(), (mask != before).sum(), moved.norm(), theta.norm()]
        rows.append(torch.stack([number.double() for number in numbers]))
    table, thresholds = torch.stack(rows), method.thresholds()
    if thresholds is not None:  # in the same transfer
        table = torch.cat([table, thresholds.to(table)[:, None]], dim=1)
    return [
        LayerStats(weight.numel(), int(alive), int(dead), int(flipped), distance, norm, *threshold)
        for weight, (alive, dead, flipped, distance, norm, *threshold) in zip(weights, table.tolist(), strict=True)
    ], masks


def total(layers: Sequence[LayerStats]) -> LayerStats:
    """Return the statistics of all layers together; the threshold is the mean over their weights."""
    return LayerStats(
        numel=sum(layer.numel for layer in layers),
        alive=sum(layer.alive for layer in layers),
        dead_channels=sum(layer.dead_channels for layer in layers),
        flipped=sum(layer.flipped for layer in layers),
        distance=sum(layer.distance**2 for layer in layers) ** 0.5,
        norm=sum(layer.norm**2 for layer in layers) ** 0.5,
        threshold=_mean_threshold(layers),
    )


def _mean_threshold(layers: Sequence[LayerStats]) -> float | None:
    known = [(layer.numel, layer.threshold) for layer in layers if layer.threshold is not None]
    return math.fsum(numel * value for numel, value in known) / sum(numel for numel, _ in known) if known else None
