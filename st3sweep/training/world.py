"""``World``: communication between the ranks that train a trial. Only this and ``buckets.py`` use torch.distributed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from st3sweep.training.buckets import Buckets, in_one_row, write_means
from st3sweep.util.errors import UserError


@dataclass(frozen=True)
class World:
    """This process's ``rank``, the number ``size`` of ranks, and its device. Size 1 needs no process group."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def recordable(self) -> bool:
        """Return whether a CUDA graph can hold ``all_reduce_mean_``: with one rank, or by NCCL."""
        return self.size == 1 or (self.device.type == "cuda" and "nccl" in str(dist.get_backend()))

    def all_reduce_mean_(self, tensors: Iterable[Tensor]) -> None:
        """Replace each floating-point tensor by its mean over ranks, in one message a dtype."""
        if self.size == 1:
            return
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            by_dtype.setdefault(tensor.dtype, []).append(tensor)
        for group in by_dtype.values():
            row = in_one_row(group)
            dist.all_reduce(row)
            write_means(group, row, self.size)

    @contextmanager
    def averaging(self, parameters: Iterable[nn.Parameter]) -> Iterator[None]:
        """Average the gradients of ``parameters`` over ranks, of a backward pass inside and while it still runs.

        On leaving, ``.grad`` holds the averages. A gradient of an earlier pass that is there already is part of them.
        """
        if self.size == 1:
            yield
            return
        with Buckets(parameters, self.size, whole=not self._in_buckets()) as buckets:
            yield
            buckets.finish()

    def _in_buckets(self) -> bool:
        """Return whether gradients may be averaged in several messages: sums have the same bits as in one.

        Those of two ranks have. Of more, gloo adds in an order that depends on an element's place in its message.
        NCCL's order depends on more than that, so there is nothing to keep.
        """
        return self.size == 2 or "nccl" in str(dist.get_backend())

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum over ranks, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in their order, on rank 0; an empty list elsewhere."""
        if self.size == 1:
            return [value]
        box = [None] * self.size if self.is_main else None
        dist.gather_object(value, box, dst=0)
        return box or []

    def first_error(self, error: Exception | None) -> Exception | None:
        """Return, on every rank, the error of the first rank that has one; of another rank it has the text only.

        For what one rank may fail at alone, such as reading a file: the others would wait in their next collective.
        """
        texts = self.gather(None if error is None else f"{type(error).__name__}: {error}")
        found = self.broadcast(next((text for text in texts if text is not None), None))
        return error or (None if found is None else UserError(f"on another rank: {found}"))

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's value on every rank: one rank decides, so that ranks never differ and deadlock."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]
