"""Training on with the mask as it stands: after hardening, for fine-tuning and for a hardened model's evaluation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from st3sweep.sparse.method import Method, Weights


class FixedMask(Method):
    """θ̂ = θ m, only live weights have a gradient, and pruned ones stay 0 in θ; m is where ``weights`` are not zero.

    ``ratio`` is carried over from the method that made the weights. Differs from the paper: none.
    """

    def __init__(self, weights: Weights, ratio: float):
        self.target = self.ratio = ratio
        self.masks = [weight.detach() != 0 for weight in weights]

    @torch.no_grad()
    def refresh(self, progress: float, weights: Weights) -> None:  # noqa: ARG002
        # Momentum from before the mask was fixed still moves the pruned weights.
        for weight, mask in zip(weights, self.masks, strict=True):
            weight.mul_(mask)

    @torch.no_grad()
    def sparsify(self, weights: Weights) -> list[Tensor] | None:
        return [weight * mask for weight, mask in zip(weights, self.masks, strict=True)]

    @torch.no_grad()
    def pull_back(self, progress: float, weights: Weights) -> None:  # noqa: ARG002
        for weight, mask in zip(weights, self.masks, strict=True):
            if weight.grad is not None:
                weight.grad.mul_(mask)

    def state_dict(self) -> dict[str, Any]:
        return {"ratio": self.ratio, "masks": self.masks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.target = self.ratio = state["ratio"]
        self.masks = state["masks"]
