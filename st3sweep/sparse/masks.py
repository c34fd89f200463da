"""What is counted on masks and sparse weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def nonzeros(weights: Sequence[Tensor]) -> list[int]:
    """Number of non-zero entries of each weight. Waits for the device once."""
    counts = torch.stack([torch.count_nonzero(weight) for weight in weights])
    return [int(count) for count in counts.tolist()]
