"""``Buckets``: average gradients over ranks in a few messages, each sent as soon as its gradients are there.

The parameters, last layers first as their gradients come, are cut into buckets. Once all gradients of a bucket are
there, and all earlier buckets have been sent, the backward pass sends it and continues. So every rank sends the same
messages in the same order, whatever its timing. A bucket with a parameter that gets no gradient is sent at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

BUCKET_BYTES = 8 << 20  # large enough for the bandwidth of a network, small beside the whole of a large model


def in_one_row(tensors: Sequence[Tensor]) -> Tensor:
    """Return the elements of all ``tensors``, which have one dtype, one after the other."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def write_means(tensors: list[Tensor], row: Tensor, ranks: int) -> None:
    """Write to ``tensors`` the means of their sums over ``ranks``, which are in one ``row``."""
    row /= ranks
    parts = row.split([tensor.numel() for tensor in tensors])
    torch._foreach_copy_(tensors, [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)])


class _Bucket:
    """Neighbouring parameters of one dtype, and the message that averages their gradients, once it is sent."""

    def __init__(self) -> None:
        self.parameters: list[nn.Parameter] = []
        self.bytes = self.missing = 0
        self.sent: tuple[list[Tensor], Tensor, Any] | None = None  # gradients, their sum in one row, its completion

    def send(self) -> None:
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if gradients:
            row = in_one_row(gradients)
            self.sent = (gradients, row, dist.all_reduce(row, async_op=True))

    def receive(self, ranks: int) -> None:
        """Wait for the sum (on a GPU, its stream waits) and write the mean to the gradients."""
        if self.sent is None:
            return
        gradients, row, completion = self.sent
        completion.wait()
        write_means(gradients, row, ranks)


class Buckets:
    """Averages over ``ranks`` of the gradients of ``parameters``, for one backward pass while open, then ``finish``.

    ``whole``: one bucket a dtype, of any size.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], ranks: int, *, whole: bool = False):
        trained = [p for p in parameters if p.requires_grad]
        self._ranks, self._next = ranks, 0
        self.buckets: list[_Bucket] = []
        self._of: dict[nn.Parameter, _Bucket] = {}
        open_: dict[torch.dtype, _Bucket] = {}
        # In one message the order is that of the model, which results of earlier versions were summed in.
        for p in trained if whole else reversed(trained):
            size = p.numel() * p.element_size()
            bucket = open_.get(p.dtype)
            if bucket is None or (not whole and bucket.bytes + size > BUCKET_BYTES):
                bucket = open_[p.dtype] = _Bucket()
                self.buckets.append(bucket)
            bucket.parameters.append(p)
            bucket.bytes, bucket.missing, self._of[p] = bucket.bytes + size, bucket.missing + 1, bucket
        self._hooks: list[Any] = []

    def __enter__(self) -> Buckets:
        if len(self.buckets) > 1:  # one bucket is complete when the pass is
            self._hooks = [p.register_post_accumulate_grad_hook(self._there) for p in self._of]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _there(self, p: Tensor) -> None:
        """Note that a gradient is complete; send what is due."""
        bucket = self._of[p]  # type: ignore[index]
        if not bucket.missing:
            raise RuntimeError("a parameter got a second gradient in one backward pass, after the first was sent")
        bucket.missing -= 1
        while self._next < len(self.buckets) and not self.buckets[self._next].missing:
            self.buckets[self._next].send()
            self._next += 1

    def finish(self) -> None:
        """Send what was not sent during the pass, and replace all gradients by their means."""
        for bucket in self.buckets[self._next :]:
            bucket.send()
        for bucket in self.buckets:
            bucket.receive(self._ranks)
