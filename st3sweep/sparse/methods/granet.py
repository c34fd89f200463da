"""GraNet: pruned gradually by one ranking of the whole network, and rewired by the gradient each time.

The masks start at random with the density of ERK, or dense. At every update, at part t of training:

    s     = s_f + (s_i - s_f) (1 - (t - t_0) / (t_1 - t_0))^3      total sparsity, s_i at t_0, s_f from t_1 on
    m    <- the (1 - s) n largest |θ| of the whole network among those that live
    then in each layer, K_l being what lives there now, regeneration as in RigL: the nearest whole number to
    f K_l with the smallest |θ| is dropped, and as many grow with the largest |∂L/∂θ̂| among all that were not kept;
    f falls from ``drop_fraction`` along half a cosine to 0 at the end of training

    θ̂ = θ m,  ∂L/∂θ = m ∂L/∂θ̂

Newborn weights start at 0 with momentum 0. Updates go on after t_1, without pruning. A layer that the ranking empties
stays empty.

Source: Liu et al., NeurIPS 2021 (arXiv 2106.10404). Differs from the paper: regeneration takes the gradient
of the batch after the one that pruning followed, which is that of the pruned network; the interval between updates is a
fraction of training, not a number of steps; where the target asks for less than the initial sparsity, s_i is s_f.
The authors' code lets f fall to 0.005, the paper and this to 0.
Ramp, ranking and regeneration are met against the authors' code (``tests/data/parity``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from st3sweep.schedules import cosine, last_update, ramp
from st3sweep.sparse.allocation import allocate
from st3sweep.sparse.masked import Masked, masked_densities
from st3sweep.sparse.masks import among, largest_together, nonzeros, random_masks
from st3sweep.sparse.method import Weights
from st3sweep.sparse.rewire import rewired


class GraNet(Masked):
    """``target`` in [0, 1) is the final sparsity of the layers that ``keep_dense`` does not name.

    ``initial_density`` is in (0, 1]; ``ramp_*`` and ``interval`` (above 0) are fractions of training; the ends of the
    ramp and of training are updates too. The first mask is a function of ``seed``, the shapes and the initial density.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        target: float,
        initial_density: float = 0.5,
        keep_dense: str = "none",
        drop_fraction: float = 0.5,
        ramp_start: float = 0.0,
        ramp_end: float = 0.5,
        ramp_power: float = 3.0,
        interval: float = 0.016,
        seed: int = 0,
    ):
        self.initial = min(1.0 - initial_density, target)
        counts = allocate("erk", [weight.shape for weight in weights], 1.0 - self.initial, keep_dense)
        super().__init__(random_masks(weights, counts, seed), target=target, ratio=self.initial)
        self.keep_dense, self.drop_fraction = keep_dense, drop_fraction
        self.ramp, self.interval = (ramp_start, ramp_end, ramp_power), interval
        self.updated = ramp_start  # time of the last update
        self.regeneration_due = False

    def refresh(self, progress: float, weights: Weights) -> None:
        due = self._last_update(progress)
        if due > self.updated:
            self.updated, self.regeneration_due = due, True
            done = ramp(due, *self.ramp)
            ratio = (1.0 - done) * self.initial + done * self.target
            if ratio > self.ratio:
                self.ratio, self.masks = ratio, self._pruned(ratio, weights)
        super().refresh(progress, weights)

    def _last_update(self, progress: float) -> float:
        start, end, _ = self.ramp
        if progress <= end:
            return last_update(progress, start, end, self.interval)
        return last_update(progress, end, 1.0, self.interval)

    @torch.no_grad()
    def _pruned(self, ratio: float, weights: Weights) -> list[Tensor]:
        """The masks that ``ratio`` leaves of the present ones."""
        scores = [among(weight.abs(), mask) for weight, mask in zip(weights, self.masks, strict=True)]
        return largest_together(scores, 1.0 - ratio, self.keep_dense)

    def projected_densities(self, weights: Weights) -> list[float] | None:
        return None if self.at_target else masked_densities(weights, self._pruned(self.target, weights))

    def pull_back(self, progress: float, weights: Weights, optimizer: torch.optim.Optimizer) -> None:
        if self.regeneration_due:
            self.regeneration_due = False
            fraction = self.drop_fraction * cosine(progress)
            self.masks = rewired(weights, self.masks, nonzeros(self.masks), fraction, optimizer)
        super().pull_back(progress, weights, optimizer)

    def dense_gradients(self, steps: int) -> float:
        times = {self._last_update((step + 1) / steps) for step in range(steps - 2)}
        return len(times - {self.ramp[0]}) / steps  # what the last step would regenerate has faded to nothing

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "updated": self.updated, "regeneration_due": self.regeneration_due}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.updated, self.regeneration_due = state["updated"], state["regeneration_due"]
