"""A sparse method from outside the package: dense at first, then the largest weights of each layer compute.

m = |θ| > the ⌊P n_l⌋-th smallest magnitude of layer l,  θ̂ = θ m,  ∂L/∂θ := ∂L/∂θ̂
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from st3sweep.sparse.method import Method, Weights
from st3sweep.trial.fields import Time, fail, fraction
from st3sweep.trial.settings import TrialSettings
from st3sweep.trial.sparsity import MethodConfig, register_method


@register_method
class ToyConfig(MethodConfig):
    """Settings of the toy method."""

    method: Literal["toy"] = "toy"
    target: float = Field(ge=0, lt=1)  # P
    start: Time = 0.5

    @property
    def label(self) -> str:
        return f"toy from {self.start:g}" if isinstance(self.start, float) else "toy"

    def check(self, trial: TrialSettings) -> None:
        if fraction(self.start, trial.train.epochs) >= 1:
            raise fail("sparsity.start", "must be before the end of training", "train.epochs")

    def build(self, weights: Weights, trial: TrialSettings, macs_per_weight: Sequence[float]) -> Toy:  # noqa: ARG002
        return Toy(self, start=fraction(self.start, trial.train.epochs))


class Toy(Method):
    """The method; ``start`` is a fraction of training."""

    def __init__(self, config: ToyConfig, *, start: float):
        self.target_sparsity, self.start = config.target, start
        self.thresholds_: list[Tensor] = []

    @torch.no_grad()
    def refresh(self, progress: float, weights: Weights) -> None:
        if progress >= self.start:
            self.scheduled_sparsity = self.target_sparsity
            ranks = [int(self.target_sparsity * weight.numel()) for weight in weights]
            ordered = [weight.abs().flatten().sort().values for weight in weights]
            self.thresholds_ = [
                m[rank - 1] if rank else m.new_zeros(()) for m, rank in zip(ordered, ranks, strict=True)
            ]

    @torch.no_grad()
    def sparsify(self, weights: Weights) -> list[Tensor] | None:
        if not self.thresholds_:
            return None
        return [weight * (weight.abs() > tau) for weight, tau in zip(weights, self.thresholds_, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "thresholds": self.thresholds_}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.thresholds_ = state["thresholds"]
