"""Remove the channels that cannot change a network's logits; the result is a smaller dense network with the same ones.

A channel goes where every layer that reads it either has only zero weights for it, or knows its value
(``channel_values.py``): zero, or a constant that is added to the layer's bias. Zero padding makes a constant other than
zero differ at the borders, so a padded convolution keeps it. Channels that an addition joins, or a depthwise
convolution, go together or not at all. What the graph's other operations touch stays whole.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from st3sweep.export.channel_values import Channels, borders_stay, channel_values, depthwise, shape

Modules = dict[str, nn.Module]


@dataclass(eq=False)
class _Space:
    """The nodes whose channels come and go together; ``frozen`` where all channels must stay."""

    nodes: list[fx.Node]
    frozen: bool = False


def remove_dead_channels(graph: fx.GraphModule, input_shape: tuple[int, int, int]) -> int:
    """Remove, in place, the channels of ``graph`` that cannot change its output; return how many channels of layers.

    ``graph`` is a model for images of ``input_shape`` (C, H, W), in evaluation mode, best with its batch norms folded.
    One channel of a layer always stays. Logits are the same up to rounding.
    """
    removed = 0
    while gone := _round(graph, input_shape):
        removed += gone
    return removed


@torch.no_grad()
def _round(graph: fx.GraphModule, input_shape: tuple[int, int, int]) -> int:
    """Remove what can be seen at once: a channel that goes may have been the last reader of others."""
    ShapeProp(graph).propagate(torch.zeros(1, *input_shape))
    modules = dict(graph.named_modules(remove_duplicate=False))
    values, spaces = _analysed(graph, modules)
    keep = {space: _kept(space, values, modules) for space in spaces.values()}
    removed = 0
    for node in spaces:
        module = _module(node, modules)
        if not isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d) or node.args[0] not in spaces:
            continue
        source: fx.Node = node.args[0]  # type: ignore[assignment]
        stays_in, stays_out = keep[spaces[source]], keep[spaces[node]]
        if isinstance(module, nn.BatchNorm2d):
            _shrink_norm(module, stays_out)
        elif not (stays_in.all() and stays_out.all()):
            removed += int((~stays_out).sum())
            if not depthwise(module):
                _add_constants(module, values[source], ~stays_in)
            _shrink(module, stays_in, stays_out)
    return removed


def _analysed(graph: fx.GraphModule, modules: Modules) -> tuple[dict[fx.Node, Channels], dict[fx.Node, _Space]]:
    """Return the constant channels of each node, and the space of its channels."""
    values: dict[fx.Node, Channels] = {}
    spaces: dict[fx.Node, _Space] = {}
    calls = Counter(id(_module(node, modules)) for node in graph.graph.nodes)
    for node in graph.graph.nodes:
        module = _module(node, modules)
        found = channel_values(node, values, modules) if module is None or calls[id(module)] == 1 else None
        if found is None:  # the input, the output, or an operation of which nothing is known
            for one in node.all_input_nodes:
                if one in spaces:
                    spaces[one].frozen = True
                    values[one] = Channels.unknown(len(values[one].known))  # it may have been overwritten
            if len(shape(node)) > 1:
                values[node], spaces[node] = Channels.unknown(shape(node)[1]), _Space([node], frozen=True)
            continue
        values[node] = found
        inputs = [spaces[one] for one in node.all_input_nodes]
        if _reads(module):
            grouped = isinstance(module, nn.Conv2d) and module.groups > 1
            inputs[0].frozen |= grouped
            spaces[node] = _Space([node], frozen=grouped)
        else:
            joined = _Space([node])
            for space in set(inputs):
                joined.nodes += space.nodes
                joined.frozen |= space.frozen
            spaces.update(dict.fromkeys(joined.nodes, joined))
    return values, spaces


def _kept(space: _Space, values: dict[fx.Node, Channels], modules: Modules) -> Tensor:
    """Return which channels of a space stay (C,): those whose value some layer needs."""
    keep = torch.full_like(values[space.nodes[0]].known, space.frozen)
    if space.frozen:
        return keep
    for node in space.nodes:
        for module in (_module(user, modules) for user in node.users):
            if _reads(module):
                assert isinstance(module, nn.Conv2d | nn.Linear)
                of = values[node]
                read = module.weight.ne(0).transpose(0, 1).flatten(1).any(1)
                keep |= read & ~(of.known & ((of.value == 0) | torch.tensor(borders_stay(module))))
    if not keep.any():
        keep[0] = True
    return keep


def _module(node: fx.Node, modules: Modules) -> nn.Module | None:
    return modules[str(node.target)] if node.op == "call_module" else None


def _reads(module: nn.Module | None) -> bool:
    """Return whether ``module`` makes new channels of those it reads; a depthwise convolution keeps their number."""
    return isinstance(module, nn.Conv2d | nn.Linear) and not depthwise(module)


def _add_constants(layer: nn.Conv2d | nn.Linear, of: Channels, gone: Tensor) -> None:
    """Add to the bias what the constant channels that are ``gone`` contributed."""
    value = torch.where(gone & of.known, of.value, 0.0)
    if not value.any():
        return
    weight = layer.weight.double()
    added = (weight.flatten(2).sum(2) if weight.dim() > 2 else weight) @ value
    bias = added if layer.bias is None else layer.bias.double() + added
    layer.bias = nn.Parameter(bias.to(layer.weight.dtype))


def _shrink(layer: nn.Conv2d | nn.Linear, stays_in: Tensor, stays_out: Tensor) -> None:
    weight = layer.weight[stays_out]
    if not depthwise(layer):
        weight = weight[:, stays_in]
    if layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias[stays_out])
    if isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = weight.shape
    else:
        layer.groups = len(weight) if depthwise(layer) else 1
        layer.out_channels, layer.in_channels = len(weight), int(stays_in.sum())
    layer.weight = nn.Parameter(weight.contiguous())


def _shrink_norm(norm: nn.BatchNorm2d, stays: Tensor) -> None:
    norm.num_features = int(stays.sum())
    for name in ("weight", "bias", "running_mean", "running_var"):
        tensor = getattr(norm, name)
        if tensor is not None:
            setattr(norm, name, nn.Parameter(tensor[stays]) if isinstance(tensor, nn.Parameter) else tensor[stays])
