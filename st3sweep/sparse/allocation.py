"""Allocate a density to layers, in whole numbers of weights to keep.

``shapes`` are those of the weights, ``(C_out, C_in / groups, kH, kW)`` or ``(out, in)``; a density is in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def allocate(allocation: str, shapes: Sequence[Sequence[int]], density: float, keep_dense: str = "none") -> list[int]:
    """Return how many weights of each layer to keep, by the ``allocation`` uniform or erk.

    Layers that ``keep_dense`` names stay dense; ``density`` is that of the others together, met to the weight.
    """
    dense = kept_dense(keep_dense, shapes)
    share = {"uniform": uniform, "erk": erdos_renyi_kernel}[allocation]
    free = iter(share([shape for shape, kept in zip(shapes, dense, strict=True) if not kept], density))
    return live_counts([1.0 if kept else next(free) for kept in dense], [math.prod(shape) for shape in shapes])


def uniform(shapes: Sequence[Sequence[int]], density: float) -> list[float]:
    """Return the same density for all layers."""
    return [density] * len(shapes)


def erdos_renyi_kernel(shapes: Sequence[Sequence[int]], density: float) -> list[float]:
    """Return ERK densities: proportional to ``sum(shape) / prod(shape)``, ``density`` overall, none above 1.

    A layer that would exceed 1 becomes dense, and the others share the remaining weights, until none exceeds 1.
    Source: Evci et al., ICML 2020 (arXiv 1911.11134), section 3. Differs from the paper: none.
    """
    sizes = [math.prod(shape) for shape in shapes]
    densities: dict[int, float] = {}  # of the layers fixed so far
    while len(densities) < len(shapes):
        rest = [index for index in range(len(shapes)) if index not in densities]
        left = max(0.0, density * sum(sizes) - sum(sizes[index] for index in densities))
        scale = left / sum(sum(shapes[index]) for index in rest)
        shares = {index: scale * sum(shapes[index]) / sizes[index] for index in rest}
        full = [index for index in rest if shares[index] >= 1.0]
        densities |= dict.fromkeys(full, 1.0) if full else shares
    return [densities[index] for index in range(len(shapes))]


def kept_dense(keep: str, shapes: Sequence[Sequence[int]]) -> list[bool]:
    """Return for each layer whether it stays dense, by ``keep``: ``none``, ``first`` or ``first_and_depthwise``.

    A convolution whose kernels see a single channel is depthwise, unless it is the first layer.
    """
    depthwise = [keep == "first_and_depthwise" and len(shape) == 4 and shape[1] == 1 for shape in shapes]
    return [keep != "none", *depthwise[1:]]


def live_counts(densities: Sequence[float], sizes: Sequence[int]) -> list[int]:
    """Return how many weights of each layer to keep: ``densities * sizes`` in whole numbers, their total rounded once.

    Layers of density 1 stay dense. The others are apportioned by Webster's method: when uniform densities fall
    together, no layer's count ever rises, which rounding each layer and correcting the total would not ensure.
    """
    quotas = [density * size for density, size in zip(densities, sizes, strict=True)]
    counts = [min(size, _nearest(quota)) for quota, size in zip(quotas, sizes, strict=True)]
    shared = [index for index, density in enumerate(densities) if 0.0 < density < 1.0]
    total = _nearest(math.fsum(quotas[index] for index in shared))
    while (missing := total - sum(counts[index] for index in shared)) > 0:
        open_ = [index for index in shared if counts[index] < sizes[index]]
        counts[min(open_, key=lambda index: ((counts[index] + 0.5) / quotas[index], index))] += 1
    while missing < 0:
        filled = [index for index in shared if counts[index] > 0]
        counts[max(filled, key=lambda index: ((counts[index] - 0.5) / quotas[index], index))] -= 1
        missing += 1
    return counts


def _nearest(number: float) -> int:
    """Round halves up; 1e-9 makes up for rounding errors of a sum that should end in a half."""
    return math.floor(number + 0.5 + 1e-9)
