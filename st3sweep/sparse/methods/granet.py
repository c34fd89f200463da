"""GraNet: prune gradually by one global ranking, and regenerate weights by the gradient at each update.

The masks start at random with the density of ERK, or dense. At every update, at fraction t of training:

    s     = s_f + (s_i - s_f) (1 - (t - t_0) / (t_1 - t_0))^3      total sparsity, s_i at t_0, s_f from t_1 on
    m    <- the (1 - s) n largest |θ| of the whole model among the live weights
    then in each layer, K_l being its live weights now, regeneration as in RigL: the nearest whole number to
    f K_l with the smallest |θ| is dropped, and as many grow with the largest |∂L/∂θ̂| among all that were not kept;
    f falls from ``drop_fraction`` along half a cosine to 0 at the end of training

    θ̂ = θ m,  ∂L/∂θ = m ∂L/∂θ̂

Regrown weights start at 0 with momentum 0. Updates continue after t_1, without pruning. A layer that the ranking
empties stays empty.

Source: Liu et al., NeurIPS 2021 (arXiv 2106.10404). Differs from the paper: regeneration takes the gradient of the
batch after the one that pruning followed, which is that of the pruned model; the interval between updates is a
fraction of training, not a number of steps; where the target asks for less than the initial sparsity, s_i is s_f.
The authors' code lets f fall to 0.005, the paper and this to 0.
Ramp, ranking and regeneration are tested against the authors' code (``tests/data/parity``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from st3sweep.sparse.allocation import allocate
from st3sweep.sparse.flat import groups, renewed_layers
from st3sweep.sparse.masked_method import MaskedMethod, masked_densities
from st3sweep.sparse.masks import among, largest_together, nonzeros, random_masks
from st3sweep.sparse.method import Weights
from st3sweep.sparse.rewire import rewired
from st3sweep.trial.fields import Time, fraction
from st3sweep.trial.schedules import cosine, last_update, ramp
from st3sweep.trial.settings import TrialSettings
from st3sweep.trial.sparsity import KeepDense, MethodConfig, Ramp, check_interval, dense_layers_label, register_method


class GraNetRamp(Ramp):
    """Ramp of GraNet, by default with the paper's times: the first 80 of 160 epochs."""

    start: Time = 0.0
    end: Time = 80 / 160
    power: float = Field(3, gt=0)


@register_method
class GraNetConfig(MethodConfig):
    """Settings of GraNet: gradual pruning with regeneration."""

    method: Literal["granet"] = "granet"
    target: float = Field(ge=0, lt=1)  # final fraction of zeros, of the layers that are pruned
    initial_density: float = Field(0.5, gt=0, le=1)  # by ERK; or that of the target, where it is denser
    keep_dense: KeepDense = "none"
    drop_fraction: float = Field(0.5, gt=0, le=1)  # of the live weights, at the first update
    ramp: GraNetRamp = GraNetRamp()
    interval: Time = 0.016  # between two updates: 1,000 of the 62,560 steps of the paper's CIFAR models

    @property
    def fresh_start(self) -> str:
        return "which keeps a random part of them from the first step on" if self.initial_density < 1 else ""

    @property
    def label(self) -> str:
        start = ["dense-start"] if self.initial_density == 1 else []
        return " ".join(["GraNet", *start, *dense_layers_label(self.keep_dense)])

    def check(self, trial: TrialSettings) -> None:
        check_interval(self.interval, trial.train.epochs)
        self.ramp.check(trial.train.epochs)

    def ramp_progress(self, progress: float, epochs: int) -> float | None:
        if self.target <= 1 - self.initial_density:
            return None
        return self.ramp.at_last_update(progress, self.interval, epochs)

    def build(self, weights: Weights, trial: TrialSettings, macs_per_weight: Sequence[float]) -> GraNet:  # noqa: ARG002
        return GraNet(weights, self, epochs=trial.train.epochs, seed=trial.seed)


class GraNet(MaskedMethod):
    """GraNet on ``weights`` in a training of ``epochs`` epochs; the ends of the ramp and of training are updates too.

    The first mask is a function of ``seed``, the shapes and the initial density.
    """

    eager_because = ""

    def __init__(self, weights: Weights, config: GraNetConfig, *, epochs: int, seed: int):
        self.initial = min(1.0 - config.initial_density, config.target)
        counts = allocate("erk", [weight.shape for weight in weights], 1.0 - self.initial, config.keep_dense)
        masks = random_masks(weights, counts, seed)
        super().__init__(masks, target_sparsity=config.target, scheduled_sparsity=self.initial)
        self.keep_dense, self.drop_fraction = config.keep_dense, config.drop_fraction
        self.ramp, self.interval = config.ramp.fractions(epochs), fraction(config.interval, epochs)
        self.updated = self.ramp[0]  # time of the last update
        self.regeneration_due = False

    def replays(self, progress: float) -> bool:
        return self._last_update(progress) <= self.updated and not self.regeneration_due

    def refresh(self, progress: float, weights: Weights) -> None:
        due = self._last_update(progress)
        if due > self.updated:
            self.updated, self.regeneration_due = due, True
            done = ramp(due, *self.ramp)
            sparsity = (1.0 - done) * self.initial + done * self.target_sparsity
            if sparsity > self.scheduled_sparsity:
                self.scheduled_sparsity = sparsity
                self.masks = renewed_layers(self.masks, self._pruned(sparsity, weights))
        super().refresh(progress, weights)

    def _last_update(self, progress: float) -> float:
        start, end, _ = self.ramp
        if progress <= end:
            return last_update(progress, start, end, self.interval)
        return last_update(progress, end, 1.0, self.interval)

    @torch.no_grad()
    def _pruned(self, sparsity: float, weights: Weights) -> list[Tensor]:
        """Return the present masks, pruned to ``sparsity``."""
        scores = []
        for group in groups(weights):
            scores += group.unflatten(among(group.flatten(weights).abs(), group.flatten(self.masks)))
        return largest_together(scores, 1.0 - sparsity, self.keep_dense)

    def projected_densities(self, weights: Weights) -> list[float] | None:
        return None if self.at_target else masked_densities(weights, self._pruned(self.target_sparsity, weights))

    def transform_gradients(self, progress: float, weights: Weights, optimizer: torch.optim.Optimizer) -> None:
        if self.regeneration_due:
            self.regeneration_due = False
            dropped = self.drop_fraction * cosine(progress)
            moved = rewired(weights, self.masks, nonzeros(self.masks), dropped, optimizer)
            self.masks = renewed_layers(self.masks, moved)
        super().transform_gradients(progress, weights, optimizer)

    def dense_gradients(self, steps: int) -> float:
        times = {self._last_update((step + 1) / steps) for step in range(steps - 2)}
        return len(times - {self.ramp[0]}) / steps  # f is 0 at the last step

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "updated": self.updated, "regeneration_due": self.regeneration_due}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.updated, self.regeneration_due = state["updated"], state["regeneration_due"]
