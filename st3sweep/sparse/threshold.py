"""One exact threshold for the whole network, without sorting it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def global_threshold(scores: Sequence[Tensor], ratio: float) -> Tensor:
    """The ``ratio``-quantile of all ``scores`` together, interpolated linearly at ``(n-1) * ratio``.

    ``scores`` are non-negative tensors of any shapes on one device; ``ratio`` is in [0, 1). Returns a 0-d tensor.
    ``floor((n-1) * ratio) + 1`` scores are not above it when none tie. Selection, not sorting; nothing waits
    for the device.
    """
    if not 0.0 <= ratio < 1.0:
        raise ValueError(f"ratio must be in [0, 1), got {ratio}")
    flat = torch.cat([score.reshape(-1) for score in scores])
    position = (flat.numel() - 1) * ratio
    below = math.floor(position)
    lower = flat.kthvalue(below + 1).values
    weight = position - below
    if weight == 0.0:
        return lower
    # The next order statistic: the same value where it ties, else the least that is greater.
    tied = torch.count_nonzero(flat <= lower) > below + 1
    greater = torch.where(flat > lower, flat, torch.inf).amin()
    upper = torch.where(tied, lower, greater)
    return torch.lerp(lower, upper, weight)
