"""Masks of sparse weights: which are chosen, by score or at random, and what is counted on them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from st3sweep.sparse.allocation import allocate, kept_dense
from st3sweep.sparse.threshold import order_statistic


@torch.no_grad()
def nonzeros(weights: Sequence[Tensor]) -> list[int]:
    """Number of non-zero entries of each weight. Waits for the device once."""
    counts = torch.stack([torch.count_nonzero(weight) for weight in weights])
    return [int(count) for count in counts.tolist()]


@torch.no_grad()
def largest(scores: Sequence[Tensor], count: int) -> list[Tensor]:
    """Masks (bool, of the scores' shapes and layouts) of the ``count`` largest of all ``scores`` together.

    Exact: of equal scores those that come first are chosen, in the order of ``flatten``. ``count`` is in [0, n]. On a
    GPU nothing waits for the device.
    """
    chosen = _largest(torch.cat([score.reshape(-1) for score in scores]), count)
    parts = torch.split(chosen, [score.numel() for score in scores])
    return [_laid_out(part, score) for part, score in zip(parts, scores, strict=True)]


def largest_together(scores: Sequence[Tensor], density: float, keep_dense: str = "none") -> list[Tensor]:
    """Masks (bool) of the largest of all layers' ``scores``; layers that ``keep_dense`` names stay whole.

    As many as ``allocation.allocate`` gives the others together for ``density``.
    """
    shapes = [score.shape for score in scores]
    counts = allocate("uniform", shapes, density, keep_dense)
    free = [index for index, kept in enumerate(kept_dense(keep_dense, shapes)) if not kept]
    masks = [torch.ones_like(score, dtype=torch.bool) for score in scores]
    ranked = largest([scores[index] for index in free], sum(counts[index] for index in free))
    for index, mask in zip(free, ranked, strict=True):
        masks[index] = mask
    return masks


def among(scores: Tensor, mask: Tensor) -> Tensor:
    """``scores`` where ``mask`` is true, and else less than any score: a score may itself be 0."""
    return scores.masked_fill(~mask, -torch.inf)


def _largest(flat: Tensor, count: int) -> Tensor:
    if count in (0, flat.numel()):
        return torch.full_like(flat, count > 0, dtype=torch.bool)
    least = order_statistic(flat, flat.numel() - count)
    above, equal = flat > least, flat == least
    return above | (equal & (equal.cumsum(0) <= count - above.sum()))


@torch.no_grad()
def random_masks(weights: Sequence[Tensor], counts: Sequence[int], seed: int) -> list[Tensor]:
    """A mask (bool) of each weight's shape with exactly ``counts`` ones, every such mask being equally likely.

    A function of ``seed``, the shapes and the counts alone: the same on all ranks and devices.
    """
    # Not ``seed`` itself: the network's first weights were drawn with it, and the mask would follow them.
    digest = hashlib.sha256(f"masks {seed}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    masks = []
    for weight, count in zip(weights, counts, strict=True):
        mask = torch.zeros(weight.numel(), dtype=torch.bool)
        mask[torch.randperm(weight.numel(), generator=generator)[:count]] = True
        masks.append(_laid_out(mask, weight))
    return masks


def _laid_out(mask: Tensor, like: Tensor) -> Tensor:
    """``mask``, flat, in the shape of ``like``, on its device and in the order in which it lies in memory."""
    return torch.empty_like(like, dtype=torch.bool, requires_grad=False).copy_(mask.view(like.shape))
