"""``Tape``: record and repeat operations on a CPU as a CUDA graph does on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from dispatches import SYNCHRONISING, has_mask
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map


class Tape(TorchDispatchMode):
    """Recorder of one function's operations, with the tensors that each read and wrote.

    Like a graph it does not execute what it records (it undoes it), repeats operations with the numbers and at the
    addresses that they were recorded with, and runs no Python. Raises RuntimeError for an operation that waits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self.own: set[int] = set()  # storages that the function allocated
        self.before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}  # others that it wrote to

    def record(self, function: Callable[[], None]) -> Callable[[], None]:
        tape, generator = Tape(), torch.get_rng_state()
        try:
            with tape:
                function()
        finally:
            torch.set_rng_state(generator)
            for storage, saved in tape.before.values():
                storage.copy_(saved)
        return tape.replay

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        if name in SYNCHRONISING or (name.startswith("index") and has_mask(args)):
            raise RuntimeError(f"{name} waits for the device")
        for tensor in written(func, args, kwargs):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self.own | self.before.keys():
                self.before[storage.data_ptr()] = (storage, storage.clone())
        found = func(*args, **kwargs)
        if not is_view(func):
            for tensor in tensors_of(found):
                if tensor.untyped_storage().data_ptr() not in self.before:
                    self.own.add(tensor.untyped_storage().data_ptr())
            same = lambda leaf: leaf  # noqa: E731 (a list that the caller may change is copied)
            self.operations.append((func, tree_map(same, args), tree_map(same, kwargs), tree_map(same, found)))
        return found

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, recorded in self.operations:
            for place, value in zip(tensors_of(recorded), tensors_of(func(*args, **kwargs)), strict=True):
                if place.data_ptr() != value.data_ptr():
                    place.copy_(value)


def tensors_of(values: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor))


def is_view(func: Any) -> bool:
    """Return whether an operation returns an alias of its input to which it does not write."""
    return any(returned.alias_info and not returned.alias_info.is_write for returned in func._schema.returns)


def written(func: Any, args: Any, kwargs: Any) -> Iterator[Tensor]:
    """Yield the tensors that an operation writes to."""
    if "batch_norm" in func._schema.name and "backward" not in func._schema.name:
        yield from tensors_of(args)  # the schema does not say that it updates the running statistics
        return
    for position, argument in enumerate(func._schema.arguments):
        value = args[position] if position < len(args) else kwargs.get(argument.name)
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield from tensors_of(value)
