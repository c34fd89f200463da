"""Make masks, by score or at random, and count non-zeros."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from st3sweep.sparse import flat
from st3sweep.sparse.allocation import allocate, kept_dense
from st3sweep.sparse.flat import Group, groups
from st3sweep.sparse.threshold import order_statistic


@torch.no_grad()
def nonzeros(weights: Sequence[Tensor]) -> list[int]:
    """Return the number of non-zero entries of each weight, with one host-device synchronisation."""
    counts = [group.nonzeros(group.flatten(weights)) for group in groups(weights)]
    return [int(count) for count in torch.cat(counts).tolist()]


@torch.no_grad()
def largest(scores: Sequence[Tensor], count: int | Tensor) -> list[Tensor]:
    """Return masks (bool, of the scores' shapes and layouts) of the ``count`` largest of all ``scores`` together.

    Exact: of equal scores the first are chosen, in the order of ``flatten``. ``count`` is in [0, n]: a number, or
    a 0-d tensor of int64. No host-device synchronisation on a GPU.
    """
    chosen = _largest(torch.cat([score.reshape(-1) for score in scores]), count)
    parts = torch.split(chosen, [score.numel() for score in scores])
    return [_laid_out(part, score) for part, score in zip(parts, scores, strict=True)]


@torch.no_grad()
def largest_in_layers(group: Group, row: Tensor, counts: Sequence[int]) -> Tensor:
    """Return the mask (bool) of the largest scores of each layer of ``row``, as a row of ``group``.

    ``counts`` is how many, of all layers. Of equal scores the first are chosen, in the order of ``flatten``.
    """
    own = counts[group.layers]
    if group.single:
        return largest(group.unflatten(row), own[0])[0].as_strided((group.n,), (1,))
    ends = [start + count for start, count in zip(accumulate(group.sizes, initial=0), own, strict=False)]
    ends_of = group.of_layers(torch.tensor([0] * group.first + ends, device=row.device))
    order = group.order_layers(group.from_memory_order(row), descending=True)
    chosen = torch.arange(group.n, device=row.device) < ends_of
    return group.to_memory_order(torch.empty_like(chosen).scatter_(0, order, chosen))


@torch.no_grad()
def largest_together(scores: Sequence[Tensor], density: float, keep_dense: str = "none") -> list[Tensor]:
    """Return masks (bool) of the largest of all layers' ``scores``; layers that ``keep_dense`` names stay dense.

    Their number is what ``allocation.allocate`` gives the other layers together for ``density``.
    """
    shapes = [score.shape for score in scores]
    counts, dense = allocate("uniform", shapes, density, keep_dense), kept_dense(keep_dense, shapes)
    if flat.launch_bound(scores[0]):
        (group,) = groups(scores)
        row = group.from_memory_order(group.flatten(scores))
        if any(dense):
            row.masked_fill_(group.of_layers(torch.tensor(dense, device=row.device)), torch.inf)
        return group.unflatten(group.to_memory_order(_largest(row, sum(counts))))
    free = [index for index, kept in enumerate(dense) if not kept]
    masks = [torch.ones_like(score, dtype=torch.bool) for score in scores]
    ranked = largest([scores[index] for index in free], sum(counts[index] for index in free))
    for index, mask in zip(free, ranked, strict=True):
        masks[index] = mask
    return masks


def among(scores: Tensor, mask: Tensor) -> Tensor:
    """Return ``scores`` where ``mask`` is true and -inf elsewhere: 0 would not do, as a score may itself be 0."""
    return torch.where(mask, scores, -torch.inf)  # in the layout of both, which ``masked_fill`` would not keep


def _largest(row: Tensor, count: int | Tensor) -> Tensor:
    if not isinstance(count, Tensor) and count in (0, row.numel()):
        return torch.full_like(row, count > 0, dtype=torch.bool)
    least = order_statistic(row, row.numel() - count)
    above, equal = row > least, row == least
    return above | (equal & (equal.cumsum(0) <= count - above.sum()))


@torch.no_grad()
def random_masks(weights: Sequence[Tensor], counts: Sequence[int], seed: int) -> list[Tensor]:
    """Draw a mask (bool) of each weight's shape with exactly ``counts`` ones, uniformly among all such masks.

    A function of ``seed``, the shapes and the counts alone: the same on all ranks and devices.
    """
    # Not ``seed`` itself: the model's initial weights were drawn with it, and the mask would correlate with them.
    digest = hashlib.sha256(f"masks {seed}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    masks = []
    for weight, count in zip(weights, counts, strict=True):
        mask = torch.zeros(weight.numel(), dtype=torch.bool)
        mask[torch.randperm(weight.numel(), generator=generator)[:count]] = True
        masks.append(_laid_out(mask, weight))
    return masks


def _laid_out(mask: Tensor, like: Tensor) -> Tensor:
    """Return the flat ``mask`` in the shape, on the device and in the memory layout of ``like``."""
    return torch.empty_like(like, dtype=torch.bool, requires_grad=False).copy_(mask.view(like.shape))
