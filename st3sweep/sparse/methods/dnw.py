"""DNW: the largest weights of every layer compute, all weights learn.

With P the sparsity, n_l the number of weights of layer l and τ_l its ⌊P n_l⌋-th smallest magnitude:

    m  = |θ| > τ_l             mask, of each layer by itself
    θ̂  = θ m                   sparse weights
    ∂L/∂θ := ∂L/∂θ̂             straight-through, pruned weights included

The sparsity is P from before the first step to the end; the mask is taken anew after every optimiser step. Pruned
weights go on learning, and come back when they outgrow another.

Source: Wortsman, Farhadi & Rastegari, NeurIPS 2019 (arXiv 1906.00586), where the edges of a layer's graph are its
weights. Differs from the paper: none. Met against the code of STR's authors (``tests/data/parity``): sparse weights, a
short training.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from st3sweep.sparse.allocation import kept_dense
from st3sweep.sparse.method import Method, Weights
from st3sweep.sparse.threshold import magnitude_of_rank


class DNW(Method):
    """``target`` in [0, 1) is the fraction that falls in each layer, but for those that ``keep_dense`` names
    (``allocation.kept_dense``).

    Weights of equal magnitude at τ_l all fall.
    """

    def __init__(self, weights: Weights, *, target: float, keep_dense: str = "none"):
        self.target = self.ratio = target
        kept = kept_dense(keep_dense, [weight.shape for weight in weights])
        self.fallen = [  # weights of each layer
            0 if dense else math.floor(target * weight.numel()) for weight, dense in zip(weights, kept, strict=True)
        ]
        self.tau: list[Tensor] = []  # threshold of each layer, 0-d
        self.refresh(0.0, weights)

    @torch.no_grad()
    def refresh(self, progress: float, weights: Weights) -> None:  # noqa: ARG002
        self.tau = [
            magnitude_of_rank(weight, fallen - 1) if fallen else weight.new_zeros(())
            for weight, fallen in zip(weights, self.fallen, strict=True)
        ]

    @torch.no_grad()
    def sparsify(self, weights: Weights) -> list[Tensor] | None:
        if not any(self.fallen):
            return None
        return [weight * (weight.abs() > tau) for weight, tau in zip(weights, self.tau, strict=True)]

    def thresholds(self) -> list[float | None]:
        return [*torch.stack(self.tau).tolist()]

    def state_dict(self) -> dict[str, Any]:
        return {"ratio": self.ratio, "tau": self.tau}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.ratio, self.tau = state["ratio"], state["tau"]
