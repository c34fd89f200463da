"""The ranks that train one trial together: the only user of torch.distributed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class World:
    """``rank`` of ``size`` processes, and the device this one computes on. One process needs no process group."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def all_reduce_mean_(self, tensors: Iterable[Tensor]) -> None:
        """Replace each floating-point tensor by its mean over ranks, in one message a dtype."""
        if self.size == 1:
            return
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            by_dtype.setdefault(tensor.dtype, []).append(tensor)
        for group in by_dtype.values():
            flat = torch.cat([tensor.reshape(-1) for tensor in group])
            dist.all_reduce(flat)
            flat /= self.size
            for tensor, part in zip(group, flat.split([t.numel() for t in group]), strict=True):
                tensor.copy_(part.view(tensor.shape))

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over ranks."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather(self, value: Any) -> list[Any]:
        """What each rank passed, in their order, on rank 0; nothing elsewhere."""
        if self.size == 1:
            return [value]
        box = [None] * self.size if self.is_main else None
        dist.gather_object(value, box, dst=0)
        return box or []

    def broadcast(self, value: Any) -> Any:
        """What rank 0 passed, on every rank: decisions are made once, so that no rank waits for another for ever."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]
