"""Training on with the mask as it stands: after hardening, for fine-tuning and for a hardened model's evaluation."""

from __future__ import annotations

from typing import Any

from st3sweep.sparse.masked_method import MaskedMethod
from st3sweep.sparse.method import Weights


class FixedMask(MaskedMethod):
    """θ̂ = θ m, only live weights have a gradient, and pruned ones stay 0 in θ; m is where ``weights`` are not zero.

    ``sparsity`` is what the method that made the weights asked for. Differs from the paper: none.
    """

    def __init__(self, weights: Weights, sparsity: float):
        masks = [weight.detach() != 0 for weight in weights]
        super().__init__(masks, target_sparsity=sparsity, scheduled_sparsity=sparsity)

    def state_dict(self) -> dict[str, Any]:
        return {"ratio": self.scheduled_sparsity, "fixed_masks": self.masks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.target_sparsity = self.scheduled_sparsity = state["ratio"]
        self.masks = state["fixed_masks"]
