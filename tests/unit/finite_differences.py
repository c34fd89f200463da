"""Gradients by central differences."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


@torch.no_grad()
def central_differences(tensor: Tensor, loss: Callable[[], float], by: float = 1e-6) -> Tensor:
    """Compute ∂loss/∂tensor in float64, of the shape of ``tensor``, which is restored."""
    entries = tensor.view(-1)

    def at(index: int, value: float) -> float:
        kept = entries[index].item()
        entries[index] = value
        found = loss()
        entries[index] = kept
        return found

    found = [(at(i, x + by) - at(i, x - by)) / (2 * by) for i, x in enumerate(entries.tolist())]
    return torch.tensor(found, dtype=torch.float64).view_as(tensor)
