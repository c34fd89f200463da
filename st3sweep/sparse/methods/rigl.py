"""RigL: at intervals, drop the smallest weights of each layer and grow as many where the gradient is largest.

The masks start at random, K_l of n_l weights. At every update, t being the fraction of training done, before
t = T_end, for each layer:

    f     = α/2 (1 + cos(π t / T_end)),  d = nearest whole number to f K_l
    kept  = the K_l - d largest |θ| among the live
    grown = the d largest |∂L/∂θ̂| among all that are not kept
    m_l  <- kept or grown

    θ̂ = θ m,  ∂L/∂θ = m ∂L/∂θ̂

A weight that was not live before starts at 0 with momentum 0; one dropped and grown at once keeps its value and
momentum. ∂L/∂θ̂ is the gradient of the whole layer, pruned weights included: computed at every step, used at updates.

Source: Evci et al., ICML 2020 (arXiv 1911.11134), section 3 and algorithm 1. Differs from the paper: an update does not
take the place of that iteration's optimiser step but comes before it; the interval between updates is a fraction of
training, not a number of steps. An update is tested against a port to torch (``tests/data/parity``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field

from st3sweep.sparse.allocation import allocate
from st3sweep.sparse.flat import renewed_layers
from st3sweep.sparse.masked_method import MaskedMethod
from st3sweep.sparse.masks import random_masks
from st3sweep.sparse.method import Weights
from st3sweep.sparse.rewire import rewired
from st3sweep.trial.fields import Time, fail, fraction
from st3sweep.trial.schedules import cosine, last_update
from st3sweep.trial.settings import TrialSettings
from st3sweep.trial.sparsity import KeepDense, MethodConfig, check_interval, dense_layers_label, register_method


@register_method
class RigLConfig(MethodConfig):
    """Settings of RigL."""

    constant_sparsity: ClassVar[bool] = True

    method: Literal["rigl"] = "rigl"
    target: float = Field(ge=0, lt=1)  # fraction of zeros, of the layers that are pruned
    allocation: Literal["erk", "uniform"] = "erk"
    keep_dense: KeepDense = "none"
    drop_fraction: float = Field(0.3, gt=0, le=1)  # α: of the live weights, at the first update
    interval: Time = 1 / 320  # between two updates: 100 of the 32,000 steps of the paper's ResNet-50
    stop: Time = 0.75  # T_end: no updates from here on

    @property
    def fresh_start(self) -> str:
        return "which keeps a random part of them from the first step on"

    @property
    def label(self) -> str:
        """Return the label; "RigL" with uniform densities keeps the first layer dense, as the paper does."""
        if self.allocation == "erk":
            return " ".join(["RigL+ERK", *dense_layers_label(self.keep_dense)])
        return {"first": "RigL", "none": "RigL all-sparse"}.get(self.keep_dense, "RigL dense-first-and-depthwise")

    def check(self, trial: TrialSettings) -> None:
        interval = check_interval(self.interval, trial.train.epochs)
        if interval >= (stop := fraction(self.stop, trial.train.epochs)):
            message = f"must be below sparsity.stop, or no update happens (interval {interval:g}, stop {stop:g})"
            raise fail("sparsity.interval", message, "sparsity.stop", "train.epochs")

    def build(self, weights: Weights, trial: TrialSettings, macs_per_weight: Sequence[float]) -> RigL:  # noqa: ARG002
        return RigL(weights, self, epochs=trial.train.epochs, seed=trial.seed)


class RigL(MaskedMethod):
    """RigL on ``weights`` in a training of ``epochs`` epochs.

    The first mask is a function of ``seed``, the shapes and the allocation.
    """

    eager_because = ""

    def __init__(self, weights: Weights, config: RigLConfig, *, epochs: int, seed: int):
        shapes, density = [weight.shape for weight in weights], 1.0 - config.target
        self.counts = allocate(config.allocation, shapes, density, config.keep_dense)
        masks = random_masks(weights, self.counts, seed)
        super().__init__(masks, target_sparsity=config.target, scheduled_sparsity=config.target)
        self.drop_fraction = config.drop_fraction
        self.interval, self.stop = fraction(config.interval, epochs), fraction(config.stop, epochs)
        self.updated = 0.0  # time of the last update, a multiple of the interval

    def replays(self, progress: float) -> bool:
        return last_update(progress, 0.0, self.stop, self.interval) <= self.updated

    def transform_gradients(self, progress: float, weights: Weights, optimizer: torch.optim.Optimizer) -> None:
        due = last_update(progress, 0.0, self.stop, self.interval)
        if due > self.updated:
            self.updated = due
            dropped = self.drop_fraction * cosine(progress / self.stop)
            moved = rewired(weights, self.masks, self.counts, dropped, optimizer)
            self.masks = renewed_layers(self.masks, moved)
        super().transform_gradients(progress, weights, optimizer)

    def dense_gradients(self, steps: int) -> float:
        times = {last_update((step + 1) / steps, 0.0, self.stop, self.interval) for step in range(steps)}
        return len(times - {0.0, self.stop}) / steps  # no update at the stop

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "updated": self.updated}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.updated = state["updated"]
