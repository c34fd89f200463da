"""GMP, gradual magnitude pruning: prune the smallest weights at intervals, permanently.

With p_t the sparsity of a cubic ramp at update t, and K_l whole numbers close to (1 - p_t) n_l, whose sum is the
nearest to (1 - p_t) Σ n_l (``allocation.live_counts``):

    m_l <- the K_l largest |θ| among those that m_l still keeps        uniform: K_l for each layer
    m   <- the Σ K_l largest scores among those that m still keeps     global: one ranking of the whole model
    θ̂   = θ m,  ∂L/∂θ = m ∂L/∂θ̂                                        pruned weights get no gradient

A score is |θ| or, with the criterion ``lamp``, that of ``sparse/lamp.py``. Pruned weights are 0 in θ too, so momentum
and weight decay do not move them, and they never return.

Source: Zhu & Gupta 2017 (arXiv 1710.01878), equation 1. Differs from the paper: the interval between updates is a
fraction of training, not a number of steps; the global ranking and its criteria are additions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from st3sweep.sparse.allocation import allocate
from st3sweep.sparse.flat import groups, renewed_layers
from st3sweep.sparse.lamp import lamp_row
from st3sweep.sparse.masked_method import MaskedMethod, masked_densities
from st3sweep.sparse.masks import among, largest_in_layers, largest_together
from st3sweep.sparse.method import Weights
from st3sweep.trial.fields import Time, fail
from st3sweep.trial.settings import TrialSettings
from st3sweep.trial.sparsity import KeepDense, MethodConfig, Ramp, check_interval, dense_layers_label, register_method


class GMPRamp(Ramp):
    """Ramp of GMP, by default with the times of the ST-3 recipe that GMP is compared with."""

    start: Time = 5 / 160
    end: Time = 80 / 160
    power: float = Field(3, gt=0)


@register_method
class GMPConfig(MethodConfig):
    """Settings of gradual magnitude pruning."""

    method: Literal["gmp"] = "gmp"
    target: float = Field(ge=0, lt=1)  # final fraction of zeros, of the layers that are pruned
    allocation: Literal["uniform", "global"] = "uniform"
    criterion: Literal["l1", "lamp"] = "l1"  # scores of a global ranking
    keep_dense: KeepDense = "none"
    ramp: GMPRamp = GMPRamp()
    interval: Time = 0.01  # between two updates; the end of the ramp is always one

    @property
    def label(self) -> str:
        ranking = {"uniform": [], "global": ["global"]}[self.allocation] + (
            ["LAMP"] if self.criterion == "lamp" else []
        )
        return " ".join(["GMP", *ranking, *dense_layers_label(self.keep_dense)])

    def check(self, trial: TrialSettings) -> None:
        if self.criterion == "lamp" and self.allocation == "uniform":
            raise fail("sparsity.criterion", "lamp has no effect with allocation uniform", "sparsity.allocation")
        check_interval(self.interval, trial.train.epochs)
        self.ramp.check(trial.train.epochs)

    def ramp_progress(self, progress: float, epochs: int) -> float:
        return self.ramp.at_last_update(progress, self.interval, epochs)

    def build(self, weights: Weights, trial: TrialSettings, macs_per_weight: Sequence[float]) -> GMP:  # noqa: ARG002
        return GMP(weights, self, epochs=trial.train.epochs)


class GMP(MaskedMethod):
    """Gradual magnitude pruning of ``weights`` in a training of ``epochs`` epochs."""

    eager_because = ""

    def __init__(self, weights: Weights, config: GMPConfig, *, epochs: int):
        masks = [torch.ones_like(weight, dtype=torch.bool) for weight in weights]
        super().__init__(masks, target_sparsity=config.target, scheduled_sparsity=0.0)
        self.config, self.epochs = config, epochs

    def replays(self, progress: float) -> bool:
        return self._sparsity(progress) <= self.scheduled_sparsity

    def _sparsity(self, progress: float) -> float:
        return self.target_sparsity * self.config.ramp_progress(progress, self.epochs)

    def refresh(self, progress: float, weights: Weights) -> None:
        if not self.replays(progress):
            self.scheduled_sparsity = self._sparsity(progress)
            self.masks = renewed_layers(self.masks, self._pruned(self.scheduled_sparsity, weights))
        super().refresh(progress, weights)

    @torch.no_grad()
    def _pruned(self, sparsity: float, weights: Weights) -> list[Tensor]:
        """Return the present masks, pruned to ``sparsity``."""
        counts = allocate("uniform", [weight.shape for weight in weights], 1.0 - sparsity, self.config.keep_dense)
        scores, masks = [], []
        for group in groups(weights):
            row = lamp_row(group, weights) if self.config.criterion == "lamp" else group.flatten(weights).abs()
            row = among(row, group.flatten(self.masks))
            if self.config.allocation == "global":
                scores += group.unflatten(row)
            else:
                masks += group.unflatten(largest_in_layers(group, row, counts))
        return masks or largest_together(scores, 1.0 - sparsity, self.config.keep_dense)

    def projected_densities(self, weights: Weights) -> list[float] | None:
        return None if self.at_target else masked_densities(weights, self._pruned(self.target_sparsity, weights))
