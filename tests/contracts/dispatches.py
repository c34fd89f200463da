"""Count the operations that a training step dispatches: on a GPU, one or a few kernel launches each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# What waits for the device: a value or a shape that the host needs, or a constant that it sends.
SYNCHRONISING = {
    *("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "_unique2", "equal", "lift_fresh"),
    *("bincount", "histogram"),  # not on a CPU, but on a GPU
}


class Dispatches(TorchDispatchMode):
    """Counter of dispatched operations by name, views and allocations apart; ``waiting`` has those that synchronise.

    A view returns an alias of its input to which it does not write, by its schema; an allocation is an ``empty``. A
    foreach operation counts once where a GPU runs it as one: for lists whose tensors agree, pair by pair, in shape,
    strides and dtype. Else it counts once for each pair.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.waiting: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        view = any(returned.alias_info and not returned.alias_info.is_write for returned in func._schema.returns)
        if func.namespace == "aten" and not view and "empty" not in name:
            self.counts[name] += _launches(args) if name.startswith("_foreach") else 1
        if name in SYNCHRONISING or (name.startswith("index") and has_mask(args)):
            self.waiting[name] += 1
        return func(*args, **(kwargs or {}))


def _launches(arguments: Sequence[Any]) -> int:
    lists = [
        argument for argument in arguments if isinstance(argument, list | tuple) and isinstance(argument[0], Tensor)
    ]
    alike = all(len({(t.shape, t.stride(), t.dtype) for t in pair}) == 1 for pair in zip(*lists, strict=True))
    return 1 if alike else len(lists[0])


def has_mask(arguments: Sequence[Any]) -> bool:
    """Return whether an index is a mask: its result has a shape that only the device knows."""
    indices = [index for argument in arguments if isinstance(argument, list | tuple) for index in argument]
    return any(isinstance(index, Tensor) and index.dtype is torch.bool for index in indices)
