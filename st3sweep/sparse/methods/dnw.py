"""DNW: compute with the largest weights of every layer, and train all weights straight-through.

With P the sparsity, n_l the number of weights of layer l and τ_l its ⌊P n_l⌋-th smallest magnitude:

    m  = |θ| > τ_l             mask, per layer
    θ̂  = θ m                   sparse weights
    ∂L/∂θ := ∂L/∂θ̂             straight-through, pruned weights included

The sparsity is P from before the first step to the end; the mask is recomputed after every optimiser step. Pruned
weights continue to be trained, and return when they outgrow another.

Source: Wortsman, Farhadi & Rastegari, NeurIPS 2019 (arXiv 1906.00586), where the edges of a layer's graph are its
weights. Differs from the paper: none. Tested against the code of STR's authors (``tests/data/parity``): sparse weights,
a short training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from st3sweep.sparse.allocation import kept_dense
from st3sweep.sparse.flat import groups, renewed
from st3sweep.sparse.method import Method, Weights
from st3sweep.sparse.threshold import smallest_magnitudes
from st3sweep.trial.settings import TrialSettings
from st3sweep.trial.sparsity import KeepDense, MethodConfig, dense_layers_label, register_method


@register_method
class DNWConfig(MethodConfig):
    """Settings of DNW."""

    constant_sparsity: ClassVar[bool] = True

    method: Literal["dnw"] = "dnw"
    target: float = Field(ge=0, lt=1)  # P: fraction of zeros, of each layer that is pruned
    keep_dense: KeepDense = "none"

    @property
    def label(self) -> str:
        return " ".join(["DNW", *dense_layers_label(self.keep_dense)])

    def build(self, weights: Weights, trial: TrialSettings, macs_per_weight: Sequence[float]) -> DNW:  # noqa: ARG002
        return DNW(weights, self)


class DNW(Method):
    """DNW on ``weights``. Prunes all weights of magnitude τ_l where several tie."""

    eager_because = ""

    def __init__(self, weights: Weights, config: DNWConfig):
        self.target_sparsity = self.scheduled_sparsity = config.target
        kept = kept_dense(config.keep_dense, [weight.shape for weight in weights])
        self.fallen = [  # number of pruned weights of each layer
            0 if dense else math.floor(config.target * weight.numel())
            for weight, dense in zip(weights, kept, strict=True)
        ]
        self.tau: Tensor | None = None  # threshold of each layer, (layers,)
        self.refresh(0.0, weights)

    def refresh(self, progress: float, weights: Weights) -> None:  # noqa: ARG002
        self._refresh(weights)

    def refresh_from(self, numbers: Tensor, weights: Weights) -> None:  # noqa: ARG002
        self._refresh(weights)

    @torch.no_grad()
    def _refresh(self, weights: Weights) -> None:
        self.tau = renewed(self.tau, smallest_magnitudes(weights, self.fallen))

    @torch.no_grad()
    def sparsify(self, weights: Weights) -> list[Tensor] | None:
        if self.tau is None or not any(self.fallen):
            return None
        sparse = []
        for group in groups(weights):
            theta = group.flatten(weights)
            sparse += group.unflatten(theta * (theta.abs() > group.of_layers(self.tau)))
        return sparse

    def thresholds(self) -> Tensor | None:
        return self.tau

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "tau": self.tau}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.tau = torch.stack([*state["tau"]])  # of older checkpoints a list
