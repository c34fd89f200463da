"""Count the multiply-accumulates of a model's conv and linear layers, dense and sparse.

The field's tables count one multiply-accumulate as one FLOP, and so does ``gflops`` = macs / 1e9. A convolution
costs ``numel(weight) * H_out * W_out`` (so a depthwise one ``C kH kW H_out W_out``), a linear layer
``numel(weight)``. Biases, normalisation, activations and pooling are not counted. The sparse count multiplies each
layer by its density: unstructured zeros do not make dense hardware faster, so this is the cost on hardware that
skips them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LayerCost:
    """Cost of one conv or linear layer: module ``name``, ``shape`` of its weight, dense ``macs`` for one image."""

    name: str
    shape: tuple[int, ...]
    numel: int
    macs: int


def layer_costs(model: nn.Module, input_shape: tuple[int, int, int]) -> list[LayerCost]:
    """Return the costs of all conv and linear layers in the order of ``named_modules``, for one image of (C, H, W).

    A copy of the model runs once on an empty batch, which gives all shapes without arithmetic, and without the seconds
    that importing the meta device takes; a model that cannot take one, since it reshapes by the size of the batch, runs
    there. A layer that runs twice counts twice, one that does not run counts 0.
    """
    shadow = copy.deepcopy(model).float().eval()
    layers = {n: m for n, m in shadow.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    macs = dict.fromkeys(layers, 0)

    def count(name: str, weight: Tensor) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            # Outputs per image / output channels = positions at which the whole weight is used.
            macs[name] += weight.numel() * (output.shape[1:].numel() // weight.shape[0])

        return hook

    handles = [layer.register_forward_hook(count(name, layer.weight)) for name, layer in layers.items()]
    with torch.no_grad():
        try:
            shadow(torch.empty(0, *input_shape, device=next(shadow.parameters()).device))
        except RuntimeError:
            macs.update(dict.fromkeys(layers, 0))
            shadow.to("meta")(torch.empty(1, *input_shape, device="meta"))
    for handle in handles:
        handle.remove()
    return [LayerCost(n, tuple(m.weight.shape), m.weight.numel(), macs[n]) for n, m in layers.items()]


def macs_per_weight(costs: Sequence[LayerCost]) -> list[float]:
    """Return how often an image uses each weight of a layer, MAC_l / numel_l: a convolution's output positions."""
    return [layer.macs / layer.numel for layer in costs]


def gflops(costs: Sequence[LayerCost], densities: Sequence[float] | None = None) -> float:
    """Return the cost of one image in 1e9 multiply-accumulates; dense without ``densities`` (in [0, 1], by layer)."""
    densities = [1.0] * len(costs) if densities is None else densities
    return sum(cost.macs * density for cost, density in zip(costs, densities, strict=True)) / 1e9


def over_budget(budget: float, dense: float) -> str | None:
    """Why pruning cannot meet a ``budget``: the model costs less, ``dense``, both in gflops. None where it can."""
    return f"{budget:g} is more than the dense model's {dense:.6g}" if budget > dense else None


def training_gflops(sparse: Sequence[float], dense: float, images: int, dense_gradients: float) -> float:
    """Return the cost of a training in 1e9 multiply-accumulates, on hardware that skips zeros.

    A step runs forward, back to the activations, and back to the weights. The first two cost what the sparse model
    costs: ``sparse`` holds that of one image (``gflops``) for each epoch of ``images`` images, where an image counts
    once for each of its passes (``StochasticMethod.passes_per_step``). The third costs the same where pruned weights
    need no gradient, and what the ``dense`` model costs where they do: in the fraction ``dense_gradients`` of all steps
    (``Method.dense_gradients``).
    Source: Evci et al., ICML 2020, appendix on FLOPs. Differs from the paper: an update of RigL adds to a step, and
    does not take its place.
    """
    if not 0.0 <= dense_gradients <= 1.0:
        raise ValueError(f"dense_gradients must be in [0, 1], got {dense_gradients}")
    return images * sum(3 * cost + dense_gradients * (dense - cost) for cost in sparse)
