"""How magnitudes of different layers are made comparable: the factor c_l by which a layer's |w| is multiplied."""

from __future__ import annotations

import math
from collections.abc import Sequence


def l1(shape: Sequence[int]) -> float:  # noqa: ARG001 (one signature for all criteria)
    """ST-3: magnitudes as they are."""
    return 1.0


def sigma(shape: Sequence[int]) -> float:
    """ST-3σ: ``sqrt(sum(shape))``, the reciprocal of the standard deviation of Glorot's initialisation up to a factor.

    ``shape`` is a weight's, ``(C_out, C_in / groups, kH, kW)`` or ``(out, in)``.
    """
    return math.sqrt(sum(shape))


CRITERIA = {"l1": l1, "sigma": sigma}
