"""``MaskedMethod``: base of the methods with a stored mask, whose pruned weights stay 0 in θ too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from st3sweep.sparse.flat import groups, multiply_
from st3sweep.sparse.masks import nonzeros
from st3sweep.sparse.method import Method, Weights


@torch.no_grad()
def masked_densities(weights: Weights, masks: Sequence[Tensor]) -> list[float]:
    """Return the density of each layer under ``masks``; kept weights that happen to be 0 count as zeros."""
    alive = nonzeros([weight * mask for weight, mask in zip(weights, masks, strict=True)])
    return [count / weight.numel() for count, weight in zip(alive, weights, strict=True)]


def momentum_of(weight: Tensor, optimizer: torch.optim.Optimizer) -> Tensor | None:
    """Return SGD's momentum buffer of ``weight``, to be changed in place; None before its first step."""
    return optimizer.state[weight].get("momentum_buffer") if weight in optimizer.state else None


class MaskedMethod(Method):
    """Method with θ̂ = θ m, ∂L/∂θ = m ∂L/∂θ̂, and θ <- θ m after each step; ``masks`` holds m (bool) for each weight.

    The last of the three keeps momentum and weight decay from moving pruned weights away from 0. Their momentum is set
    to 0 too: left to decay, it would be denormal after 760 steps and stay so, and SGD slow on a CPU. Between updates of
    the masks a step can be replayed.
    """

    def __init__(self, masks: Sequence[Tensor], *, target_sparsity: float, scheduled_sparsity: float):
        self.masks = list(masks)
        self.target_sparsity, self.scheduled_sparsity = target_sparsity, scheduled_sparsity

    @torch.no_grad()
    def refresh(self, progress: float, weights: Weights) -> None:  # noqa: ARG002
        multiply_(weights, self.masks)

    @torch.no_grad()
    def refresh_from(self, numbers: Tensor, weights: Weights) -> None:  # noqa: ARG002
        multiply_(weights, self.masks)

    @torch.no_grad()
    def sparsify(self, weights: Weights) -> list[Tensor] | None:
        sparse = []
        for group in groups(weights):
            sparse += group.unflatten(group.flatten(weights) * group.flatten(self.masks))
        return sparse

    @torch.no_grad()
    def transform_gradients(self, progress: float, weights: Weights, optimizer: torch.optim.Optimizer) -> None:  # noqa: ARG002
        multiply_([weight.grad for weight in weights], self.masks)
        multiply_([momentum_of(weight, optimizer) for weight in weights], self.masks)

    def dense_gradients(self, steps: int) -> float:  # noqa: ARG002
        return 0.0

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "masks": self.masks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.masks = state["masks"]
