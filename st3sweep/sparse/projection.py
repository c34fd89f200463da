"""Project probabilities onto a budget of their sum."""

from __future__ import annotations

import math

import torch
from torch import Tensor


@torch.no_grad()
def project_(scores: Tensor, budget: float) -> None:
    """Move ``scores`` (any shape), in place, to the nearest point of [0, 1]^n whose sum is at most ``budget`` > 0.

    That is clamp(s - v, 0, 1) with the least v >= 0 that meets the budget: v is bisected down to the precision of the
    scores, since the sum falls as v rises. No host-device synchronisation.
    """

    def total(v: Tensor) -> Tensor:
        return (scores - v).clamp_(0.0, 1.0).sum(dtype=torch.float64)

    low, high = scores.new_zeros(()), scores.amax().clamp(min=0.0)
    kept = total(low) <= budget
    for _ in range(2 - math.floor(math.log2(torch.finfo(scores.dtype).eps))):
        middle = (low + high) / 2
        above = total(middle) > budget
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    scores.sub_(torch.where(kept, torch.zeros_like(high), high)).clamp_(0.0, 1.0)
