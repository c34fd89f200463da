"""Refuse models of other packages that cannot be pruned and counted whole: only conv and linear layers can."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from st3sweep.util.errors import near_match

ONLY_LAYERS = "must consist of conv and linear layers"
# Their cost would include products of activations, and they have weights outside conv and linear layers.
NO_ATTENTION = f"{ONLY_LAYERS}, without attention"

# Operations that multiply sums of products, and which argument of each is the weight; None: both are activations.
_WEIGHT_AT = {"convolution": 1, "mm": 1, "addmm": 2, "mv": 0, "addmv": 1, "bmm": None, "baddbmm": None}


def known_name(name: str, names: Sequence[str], package: str) -> str:
    """Return ``name``. Raises ValueError, with the closest of ``names``, where it is none of them."""
    if name not in names:
        raise ValueError(f"must be a convolutional classifier of {package}{near_match(name, names)}")
    return name


def without_storage(build: Callable[[], nn.Module]) -> nn.Module:
    """Return the model that ``build`` makes, on the meta device: its shapes, without its weights."""
    try:
        with torch.device("meta"):
            return build()
    except (RuntimeError, NotImplementedError):  # it reads a number from a tensor, as RegNets do, and all of timm 1.0.3
        with torch.random.fork_rng(devices=[]):
            return build().to("meta")


def why_not_convolutional(model: nn.Module, input_shape: tuple[int, int, int]) -> str | None:
    """Return in one line why ``model`` is not made of conv and linear layers alone, None if it is.

    Three things are refused, since pruning and counting would miss them: products of activations with activations
    (attention), convolutions with weights that are computed first (weight standardisation makes zeros non-zero), and
    weights outside conv and linear layers. Scales and biases, one number a channel, are none of these, and neither are
    fixed filters, which count as pooling. ``model`` is on the meta device, where an image of ``input_shape`` (C, H, W)
    runs through it without arithmetic.
    """
    layers = {module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    watch = _Products({*(_storage(layer.weight) for layer in layers), *map(_storage, model.buffers())})
    with torch.no_grad(), watch:
        model.eval()(torch.empty(1, *input_shape, device="meta"))
    if watch.of_activations:
        return NO_ATTENTION
    for name, module in model.named_modules():
        for own, parameter in module.named_parameters(recurse=False):
            is_scale = sum(length > 1 for length in parameter.shape) <= 1
            if module not in layers and (_storage(parameter) in watch.other_filters or not is_scale):
                return f"{ONLY_LAYERS}; {f'{name}.{own}'.lstrip('.')} is a weight outside of them"
    if watch.other_filters:
        return f"{ONLY_LAYERS} that use their weights as they are, without standardising them"
    return None


class _Products(TorchDispatchMode):
    """Watches for products with none of ``weights``, known by their storage."""

    def __init__(self, weights: set[int]):
        super().__init__()
        self.weights = weights
        self.of_activations = False
        self.other_filters: set[int] = set()  # of convolutions

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        operation = func.__name__.partition(".")[0]
        if operation in _WEIGHT_AT:
            at = _WEIGHT_AT[operation]
            if at is None or _storage(args[at]) not in self.weights:
                if operation == "convolution":
                    self.other_filters.add(_storage(args[at]))
                else:
                    self.of_activations = True
        elif "attention" in operation:
            self.of_activations = True
        return func(*args, **(kwargs or {}))


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
