"""Treat many layers as one row, so that an operation on all of them is one kernel launch, not one a layer.

On a GPU the step of a small model waits for kernel launches, so there all layers are one ``Group``. On a CPU each layer
is a group of its own: launches cost little, and a layer's temporaries stay in cache. A method is written once, for a
group. ``docs/decisions/018-one-row.md`` compares this with weights that are views of one buffer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, cached_property, lru_cache
from itertools import accumulate, pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Shape = tuple[int, ...]


def launch_bound(tensor: Tensor) -> bool:
    """Return whether many small operations on ``tensor`` wait for their launches: anywhere but on a CPU."""
    return tensor.device.type != "cpu"


def groups(tensors: Sequence[Tensor]) -> tuple[Group, ...]:
    """Return the groups that the layers ``tensors``, in their shapes and memory order, are computed in."""
    if not tensors:
        return ()
    shapes, strides = tuple(tensor.shape for tensor in tensors), tuple(map(Tensor.stride, tensors))
    return _groups(shapes, strides, tensors[0].device, launch_bound(tensors[0]))


def renewed(old: Tensor | None, new: Tensor) -> Tensor:
    """Return ``new``, which the next step reads: on a GPU at the address of ``old``, where a graph finds it."""
    if old is None or old.shape != new.shape or not launch_bound(old):
        return new
    return old.copy_(new)


def renewed_layers(old: list[Tensor], new: list[Tensor]) -> list[Tensor]:
    """Return ``new``, one tensor a layer, as ``renewed`` does."""
    if not old or not launch_bound(old[0]):
        return new
    torch._foreach_copy_(old, new)
    return old


@cache  # for good, as ``constant``: a graph reads these tensors wherever they were when it was captured
def _groups(
    shapes: tuple[Shape, ...], strides: tuple[Shape, ...], device: torch.device, one: bool
) -> tuple[Group, ...]:
    bounds = [0, len(shapes)] if one else range(len(shapes) + 1)
    return tuple(Group(first, shapes[first:last], strides[first:last], device) for first, last in pairwise(bounds))


@cache
def constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return ``values`` as a tensor, copied to the device at the first call only: each copy would synchronise."""
    return torch.tensor(values, dtype=dtype, device=device)


class Group:
    """Some neighbouring layers as one row (n,), in memory order: an output channel's weights are neighbours.

    ``first`` is the position of the first among all layers. Its functions take and return lists of all layers or of
    the group's own, as they say.
    """

    def __init__(self, first: int, shapes: tuple[Shape, ...], strides: Sequence[Shape], device: torch.device):
        self.first, self.layers = first, slice(first, first + len(shapes))
        self.shapes, self.device = shapes, device
        self.strides = [_standard(shape, stride) for shape, stride in zip(shapes, strides, strict=True)]
        self.sizes = [math.prod(shape) for shape in shapes]
        self.n, self.channels = sum(self.sizes), [shape[0] for shape in shapes]
        self.single = len(shapes) == 1

    def flatten(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return the group's part of ``tensors``, one of each of all layers, as a row (n,).

        That of a single layer shares its memory: write to it only to write to the layer.
        """
        if self.single:
            return _row(tensors[self.first], self.shapes[0], self.strides[0], self.n)
        return torch.cat([*map(_row, tensors[self.layers], self.shapes, self.strides, self.sizes)])

    def unflatten(self, row: Tensor) -> list[Tensor]:
        """Return views of the parts of ``row`` (n,), in shape and memory order of the group's layers."""
        if self.single:
            return [row.as_strided(self.shapes[0], self.strides[0])]
        starts = accumulate(self.sizes, initial=int(row.storage_offset()))
        return [*map(row.as_strided, self.shapes, self.strides, starts)]

    def write(self, row: Tensor, tensors: Sequence[Tensor]) -> None:
        """Copy ``row`` (n,) into the group's part of ``tensors``, unless it shares their memory."""
        if not self.single:
            torch._foreach_copy_(list(tensors[self.layers]), self.unflatten(row))
        elif row.data_ptr() != tensors[self.first].data_ptr():
            tensors[self.first].copy_(row.as_strided(self.shapes[0], self.strides[0]))

    def to_memory_order(self, row: Tensor) -> Tensor:
        """Return ``row`` (n,), whose layers are in the order of ``Tensor.flatten``, as a row of the group."""
        order = _order(self.shapes, tuple(self.strides), self.device)
        return row if order is None else row.index_select(0, order)

    def from_memory_order(self, row: Tensor) -> Tensor:
        """Return the inverse of ``to_memory_order``."""
        order = _order(self.shapes, tuple(self.strides), self.device)
        return row if order is None else torch.empty_like(row).scatter_(0, order, row)

    # -- a number for each layer, or for each output channel --------------------------------------------------------

    def of_layers(self, values: Tensor) -> Tensor:
        """Return ``values`` (one of each of all layers) so that they broadcast to a row: 0-d or (n,)."""
        own = values[self.layers]
        return own[0] if self.single else self._repeat(own, self._layer_sizes)

    def reduce_layers(self, row: Tensor, how: Literal["sum", "max"]) -> Tensor:
        """Return the sum, or the greatest, of each of the group's layers, (layers,)."""
        if self.single:
            return (row.sum() if how == "sum" else row.amax()).view(1)
        # By channel first: a GPU gives each segment one block of threads.
        parts = torch.segment_reduce(row, how, offsets=self._channel_offsets, unsafe=True)
        return torch.segment_reduce(parts, how, offsets=self._layer_offsets, unsafe=True)

    def nonzeros(self, row: Tensor) -> Tensor:
        """Return the number of non-zero entries of each of the group's layers, (layers,) int64."""
        if self.single:
            return torch.count_nonzero(row).view(1)
        reached = (row != 0).cumsum(0)[
            constant(tuple(size - 1 for size in accumulate(self.sizes)), torch.long, self.device)
        ]
        return torch.diff(reached, prepend=reached.new_zeros(1))

    def sort_layers(self, row: Tensor) -> Tensor:
        """Return each layer of ``row`` in ascending order, (n,)."""
        if self.single:
            return _sorted(row)
        ordered, order = row.sort()
        return ordered[self._layer[order].sort(stable=True).indices]

    def order_layers(self, row: Tensor, *, descending: bool = False) -> Tensor:
        """Return the places in ``row`` of its weights in order, layer by layer, (n,); of equal ones the first first."""
        order = row.sort(stable=True, descending=descending).indices
        return order if self.single else order.index_select(0, self._layer[order].sort(stable=True).indices)

    def sums_to_end(self, row: Tensor) -> Tensor:
        """Return for each weight the sum over it and those after it in its layer, (n,)."""
        sums = row.flip(0).cumsum(0).flip(0)
        if self.single:
            return sums
        ends = list(accumulate(self.sizes))
        later = sums[constant((*ends[:-1], 0), torch.long, row.device)]  # what the next layer begins with
        return sums - self._repeat(
            later * constant((1,) * (len(ends) - 1) + (0,), row.dtype, row.device), self._layer_sizes
        )

    def channel_means(self, row: Tensor) -> Tensor:
        """Return the mean of each output channel of the group, (channels,), without host-device synchronisation."""
        if self.single:
            return row.view(self.channels[0], -1).mean(1)
        return torch.segment_reduce(row, "mean", offsets=self._channel_offsets, unsafe=True)

    def scale_channels_(self, row: Tensor, factors: Tensor) -> Tensor:
        """Multiply each output channel of ``row``, in place, by its factor, of (channels,)."""
        if self.single:
            row.view(self.channels[0], -1).mul_(factors[:, None])
            return row
        return row.mul_(self._repeat(factors, self._channel_sizes))

    def _repeat(self, values: Tensor, counts: Tensor) -> Tensor:
        # ``output_size`` saves a synchronisation.
        return values.index_select(0, torch.repeat_interleave(counts, output_size=self.n))

    @property
    def _layer(self) -> Tensor:
        """Return the position in the group of each weight's layer, (n,): of 16 bits, which sort in fewer passes."""
        return self._repeat(torch.arange(len(self.sizes), dtype=torch.int16, device=self.device), self._layer_sizes)

    @cached_property
    def _layer_sizes(self) -> Tensor:
        return torch.tensor(self.sizes, dtype=torch.int32, device=self.device)

    @cached_property
    def _channel_sizes(self) -> Tensor:
        layers = zip(self.sizes, self.channels, strict=True)
        sizes = [size // channels for size, channels in layers for _ in range(channels)]
        return torch.tensor(sizes, dtype=torch.int32, device=self.device)

    @cached_property
    def _channel_offsets(self) -> Tensor:
        return torch.nn.functional.pad(self._channel_sizes.long().cumsum(0), (1, 0))

    @cached_property
    def _layer_offsets(self) -> Tensor:
        return torch.tensor([0, *accumulate(self.channels)], device=self.device)


def multiply_(tensors: Sequence[Tensor | None], factors: Sequence[Tensor]) -> None:
    """Multiply each of ``tensors`` that is there, in place, by its factors of the same shape, masks for example."""
    pairs = [(tensor, factor) for tensor, factor in zip(tensors, factors, strict=True) if tensor is not None]
    there, factors = [tensor for tensor, _ in pairs], [factor for _, factor in pairs]
    if there and not launch_bound(there[0]):
        torch._foreach_mul_(there, factors)
        return
    for group in groups(there):  # a foreach operation on factors of another type would launch one kernel a layer
        group.write(group.flatten(there).mul_(group.flatten(factors)), there)


def clear_(tensors: Sequence[Tensor | None], masks: Sequence[Tensor]) -> None:
    """Write 0 to each of ``tensors`` that is there, where its mask (bool, of the same shape) is true."""
    pairs = [(tensor, mask) for tensor, mask in zip(tensors, masks, strict=True) if tensor is not None]
    there, masks = [tensor for tensor, _ in pairs], [mask for _, mask in pairs]
    for group in groups(there):
        group.write(group.flatten(there).masked_fill_(group.flatten(masks), 0.0), there)


@lru_cache(maxsize=8)
def _order(shapes: tuple[Shape, ...], strides: tuple[Shape, ...], device: torch.device) -> Tensor | None:
    """Return where each weight of a row is in the order of ``Tensor.flatten``; None where the two are the same."""
    contiguous, sizes = [_strides(shape, range(len(shape))) for shape in shapes], [*map(math.prod, shapes)]
    if all(map(_same_order, shapes, strides, contiguous)):
        return None
    order = torch.arange(sum(sizes), device=device)
    starts = accumulate(sizes, initial=0)
    layers = [order.as_strided(*place) for place in zip(shapes, contiguous, starts, strict=False)]
    return torch.cat(
        [
            layer.new_empty_strided(*form).copy_(layer).as_strided((layer.numel(),), (1,))
            for layer, *form in zip(layers, shapes, strides, strict=True)
        ]
    )


def _standard(shape: Shape, stride: Shape) -> Shape:
    """Return ``stride`` if weights of an output channel are neighbours, without gaps, else a contiguous layer's."""
    contiguous = _strides(shape, range(len(shape)))
    known = [contiguous, _strides(shape, (0, 2, 3, 1))] if len(shape) == 4 else [contiguous]
    return stride if any(_same_order(shape, stride, order) for order in known) else contiguous


def _row(tensor: Tensor, shape: Shape, stride: Shape, size: int) -> Tensor:
    """Return ``tensor`` as a row in the memory order that ``stride`` tells; a copy only where its own differs."""
    own = tensor.stride()
    if own != stride and not _same_order(shape, own, stride):
        tensor = tensor.new_empty_strided(shape, stride).copy_(tensor)
    return tensor.as_strided((size,), (1,))


def _sorted(row: Tensor) -> Tensor:
    """Sort ascending. On a CPU, torch's sort also moves indices, which takes several times as long as numpy's."""
    if row.device.type == "cpu" and row.dtype in (torch.float32, torch.float64):
        return torch.from_numpy(np.sort(row.numpy()))
    return row.sort().values


def _strides(shape: Shape, order: Sequence[int]) -> Shape:
    """Return the strides of a tensor without gaps whose axes have this ``order`` in memory, the slowest first."""
    strides, step = [0] * len(shape), 1
    for axis in reversed(order):
        strides[axis], step = step, step * shape[axis]
    return tuple(strides)


def _same_order(shape: Shape, a: Shape, b: Shape) -> bool:
    return all(size == 1 or one == other for size, one, other in zip(shape, a, b, strict=True))
