"""Training on with the mask as it stands: after hardening, for fine-tuning and for a hardened model's evaluation."""

from __future__ import annotations

from typing import Any

from st3sweep.sparse.masked import Masked
from st3sweep.sparse.method import Weights


class FixedMask(Masked):
    """θ̂ = θ m, only live weights have a gradient, and pruned ones stay 0 in θ; m is where ``weights`` are not zero.

    ``ratio`` is carried over from the method that made the weights. Differs from the paper: none.
    """

    def __init__(self, weights: Weights, ratio: float):
        super().__init__([weight.detach() != 0 for weight in weights], target=ratio, ratio=ratio)

    def state_dict(self) -> dict[str, Any]:
        return {"ratio": self.ratio, "fixed_masks": self.masks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.target = self.ratio = state["ratio"]
        self.masks = state["fixed_masks"]
