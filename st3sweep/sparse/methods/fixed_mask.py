"""``FixedMask``: a mask fixed after hardening, for fine-tuning and for evaluating a hardened model."""

from __future__ import annotations

from typing import Any

from st3sweep.sparse.masked_method import MaskedMethod
from st3sweep.sparse.method import Weights


class FixedMask(MaskedMethod):
    """Method with θ̂ = θ m, m being where ``weights`` are not zero: only those train, the others stay 0 in θ.

    ``sparsity`` is the scheduled one of the method that made the weights. Differs from the paper: none.
    """

    eager_because = ""

    def __init__(self, weights: Weights, sparsity: float):
        masks = [weight.detach() != 0 for weight in weights]
        super().__init__(masks, target_sparsity=sparsity, scheduled_sparsity=sparsity)

    def state_dict(self) -> dict[str, Any]:
        return {"ratio": self.scheduled_sparsity, "fixed_masks": self.masks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.target_sparsity = self.scheduled_sparsity = state["ratio"]
        self.masks = state["fixed_masks"]
