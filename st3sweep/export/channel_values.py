"""Find the channels of a network that have the same value for every image and at every position.

A channel is constant where its filter is all zero, so that it is the bias, or where all that its filter reads is
constant; ReLU makes it zero where it is negative. Zero padding breaks a constant other than zero at the borders.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

POINTWISE: dict[Any, Callable[[Tensor], Tensor]] = {
    nn.ReLU: F.relu, nn.ReLU6: F.relu6, nn.SiLU: F.silu, nn.Hardswish: F.hardswish, nn.Sigmoid: torch.sigmoid,
    nn.Hardsigmoid: F.hardsigmoid, nn.Identity: torch.clone, nn.Dropout: torch.clone,
    F.relu: F.relu, F.relu6: F.relu6, F.silu: F.silu, F.hardswish: F.hardswish, F.sigmoid: torch.sigmoid,
    torch.relu: F.relu, torch.sigmoid: torch.sigmoid, "relu": F.relu, "relu_": F.relu, "sigmoid": torch.sigmoid,
    "contiguous": torch.clone,
}  # fmt: skip
KEEPS = {nn.MaxPool2d, nn.AdaptiveAvgPool2d, F.max_pool2d, F.adaptive_avg_pool2d}  # a constant stays what it is
ADDS = {operator.add, operator.iadd, torch.add, "add", "add_"}


@dataclass
class Channels:
    """The ``value`` (C,) of each channel of a node, where it is ``known`` (C,)."""

    known: Tensor
    value: Tensor

    @staticmethod
    def unknown(count: int) -> Channels:
        return Channels(torch.zeros(count, dtype=torch.bool), torch.zeros(count, dtype=torch.float64))


def kind(node: fx.Node, modules: dict[str, nn.Module]) -> Any:
    """Return what a node does: the class of its module, its function, or the name of its method."""
    return type(modules[str(node.target)]) if node.op == "call_module" else node.target


def shape(node: Any) -> tuple[int, ...]:
    """Return the shape that ``ShapeProp`` found for ``node``; empty where it is no single tensor."""
    meta = node.meta.get("tensor_meta") if isinstance(node, fx.Node) else None
    return tuple(getattr(meta, "shape", ()))


def depthwise(module: nn.Module) -> bool:
    """Return whether each output channel of a convolution reads the input channel of the same number alone."""
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels == module.out_channels > 1


def borders_stay(module: nn.Module) -> bool:
    """Return whether a constant input gives a constant output: no zero padding."""
    if isinstance(module, nn.Linear):
        return True
    assert isinstance(module, nn.Conv2d)
    padding = module.padding
    none = padding == "valid" or (not isinstance(padding, str) and not any(padding))
    return none or module.padding_mode != "zeros"


def channel_values(node: fx.Node, of: dict[fx.Node, Channels], modules: dict[str, nn.Module]) -> Channels | None:
    """Return the constant channels of ``node``, from those ``of`` its inputs; None for an operation not known here."""
    what = kind(node, modules)
    source = node.args[0] if node.args else None
    if not isinstance(source, fx.Node) or source not in of:
        return None
    inputs = of[source]
    module = modules.get(str(node.target)) if node.op == "call_module" else None
    if isinstance(module, nn.Linear) and len(shape(source)) != 2:
        return None  # its channels are not the second dimension
    if _overwrites(node, module) and len(source.users) > 1:
        return None  # its other readers see what it wrote
    if isinstance(module, nn.Conv2d | nn.Linear):
        return _of_layer(module, inputs)
    if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
        return _of_norm(module, inputs)
    if what in POINTWISE and (node.op == "call_module" or len(node.args) == 1):
        return Channels(inputs.known, POINTWISE[what](inputs.value))
    if what in ADDS and len(node.args) == 2 and node.args[1] in of and shape(source) == shape(node.args[1]):
        other = of[node.args[1]]  # type: ignore[index]
        return Channels(inputs.known & other.known, inputs.value + other.value)
    if what in KEEPS or _means_over_positions(node, what) or _drops_positions(node, source, what):
        return inputs
    return None


def _of_layer(layer: nn.Conv2d | nn.Linear, inputs: Channels) -> Channels | None:
    weight = layer.weight.detach().double()
    bias = torch.zeros(len(weight)).double() if layer.bias is None else layer.bias.detach().double()
    silent = weight.flatten(2).eq(0).all(2) if weight.dim() > 2 else weight.eq(0)  # (C_out, C_in / groups)
    summed = weight.flatten(2).sum(2) if weight.dim() > 2 else weight
    usable = inputs.known & ((inputs.value == 0) | torch.tensor(borders_stay(layer)))
    value = torch.where(usable, inputs.value, 0.0)
    if depthwise(layer):
        return Channels(silent[:, 0] | usable, bias + torch.where(silent[:, 0], 0.0, summed[:, 0] * value))
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        return Channels(silent.all(1), bias)
    return Channels((silent | usable).all(1), bias + summed @ value)


def _of_norm(norm: nn.BatchNorm2d, inputs: Channels) -> Channels:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    count = norm.num_features
    weight = torch.ones(count) if norm.weight is None else norm.weight.detach()
    bias = torch.zeros(count) if norm.bias is None else norm.bias.detach()
    scaled = weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    known = inputs.known | (weight == 0)
    value = bias.double() + scaled * (torch.where(inputs.known, inputs.value, 0.0) - norm.running_mean.double())
    return Channels(known, value)


def _overwrites(node: fx.Node, module: nn.Module | None) -> bool:
    in_place = getattr(module, "inplace", False) or node.kwargs.get("inplace", False)
    return bool(in_place) or node.target in (operator.iadd, "add_", "relu_")


def _means_over_positions(node: fx.Node, what: Any) -> bool:
    if what not in ("mean", torch.mean) or len(shape(node.args[0])) != 4:
        return False
    dims = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
    return isinstance(dims, tuple | list) and {int(dim) % 4 for dim in dims} == {2, 3}  # type: ignore[arg-type]


def _drops_positions(node: fx.Node, source: fx.Node, what: Any) -> bool:
    """Return whether ``node`` flattens (B, C, 1, 1) to (B, C)."""
    if what not in (torch.flatten, "flatten", nn.Flatten):
        return False
    before = shape(source)
    return len(shape(node)) == 2 and len(before) == 4 and math.prod(before[2:]) == 1
