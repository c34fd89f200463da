"""Compute the factor c_l on a layer's |w| that makes magnitudes of different layers comparable.

``shape`` is a weight's, ``(C_out, C_in / groups, kH, kW)`` or ``(out, in)``; ``macs_per_weight`` is
MAC_l / numel_l, how often an image uses each weight of the layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def l1(shape: Sequence[int], macs_per_weight: float) -> float:  # noqa: ARG001 (one signature for all criteria)
    """Return 1: ST-3 compares unscaled magnitudes."""
    return 1.0


def sigma(shape: Sequence[int], macs_per_weight: float) -> float:  # noqa: ARG001
    """Return ``sqrt(sum(shape))`` (ST-3σ), the inverse standard deviation of Glorot's initialisation up to a factor."""
    return math.sqrt(sum(shape))


def family(shape: Sequence[int], macs_per_weight: float, shape_power: float, mac_power: float) -> float:
    """Return ``sum(shape)^(a/2) macs_per_weight^(-b)``, a being ``shape_power`` and b ``mac_power``.

    (a, b) = (0, 0) is ST-3, (1, 0) ST-3σ; b > 0 spares weights that cost little. A layer that does not run counts as
    used once.
    """
    scale: float = math.sqrt(sum(shape)) ** shape_power * max(macs_per_weight, 1.0) ** -mac_power
    return scale


def layer_scales(
    criterion: str,
    shapes: Sequence[Sequence[int]],
    macs_per_weight: Sequence[float],
    shape_power: float = 0.0,
    mac_power: float = 0.0,
) -> list[float]:
    """Return c_l of every layer for the ``criterion`` l1, sigma or family."""
    if criterion == "family":
        return [family(shape, use, shape_power, mac_power) for shape, use in zip(shapes, macs_per_weight, strict=True)]
    scale = {"l1": l1, "sigma": sigma}[criterion]
    return [scale(shape, use) for shape, use in zip(shapes, macs_per_weight, strict=True)]
