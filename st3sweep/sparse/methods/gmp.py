"""GMP, gradual magnitude pruning: every so often the smallest weights fall, for good.

With p_t the sparsity that a cubic ramp asks for at update t, and K_l whole numbers by (1 - p_t) n_l, of which the sum
is the nearest to (1 - p_t) Σ n_l (``allocation.live_counts``):

    m_l <- the K_l largest |θ| among those that m_l still lets live        uniform: K_l for each layer
    m   <- the Σ K_l largest scores among those that m still lets live     global: one ranking of the whole network
    θ̂   = θ m,  ∂L/∂θ = m ∂L/∂θ̂                                            pruned weights get no gradient

A score is |θ| or, with the criterion ``lamp``, that of ``sparse/lamp.py``. Pruned weights are 0 in θ too, so momentum
and weight decay do not move them, and they never return.

Source: Zhu & Gupta 2017 (arXiv 1710.01878), equation 1. Differs from the paper: the interval between updates is a
fraction of training, not a number of steps; the global ranking and its criteria are additions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from st3sweep.schedules import last_update, ramp
from st3sweep.sparse.allocation import allocate
from st3sweep.sparse.lamp import lamp_scores
from st3sweep.sparse.masked import Masked, masked_densities
from st3sweep.sparse.masks import among, largest, largest_together
from st3sweep.sparse.method import Weights


class GMP(Masked):
    """``target`` in [0, 1) is the final sparsity of the layers that ``keep_dense`` does not name.

    ``ramp_*`` and ``interval`` (above 0) are fractions of training; the end of the ramp is an update.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        target: float,
        allocation: str = "uniform",
        criterion: str = "l1",
        keep_dense: str = "none",
        ramp_start: float = 0.0,
        ramp_end: float = 0.5,
        ramp_power: float = 3.0,
        interval: float = 0.01,
    ):
        super().__init__([torch.ones_like(weight, dtype=torch.bool) for weight in weights], target=target, ratio=0.0)
        self.allocation, self.criterion, self.keep_dense = allocation, criterion, keep_dense
        self.ramp, self.interval = (ramp_start, ramp_end, ramp_power), interval

    def refresh(self, progress: float, weights: Weights) -> None:
        start, end, power = self.ramp
        ratio = self.target * ramp(last_update(progress, start, end, self.interval), start, end, power)
        if ratio > self.ratio:
            self.ratio = ratio
            self.masks = self._pruned(ratio, weights)
        super().refresh(progress, weights)

    @torch.no_grad()
    def _pruned(self, ratio: float, weights: Weights) -> list[Tensor]:
        """The masks that ``ratio`` leaves of the present ones."""
        score = lamp_scores if self.criterion == "lamp" else torch.abs
        scores = [among(score(weight), mask) for weight, mask in zip(weights, self.masks, strict=True)]
        if self.allocation == "global":
            return largest_together(scores, 1.0 - ratio, self.keep_dense)
        counts = allocate("uniform", [weight.shape for weight in weights], 1.0 - ratio, self.keep_dense)
        return [largest([layer], count)[0] for layer, count in zip(scores, counts, strict=True)]

    def projected_densities(self, weights: Weights) -> list[float] | None:
        return None if self.at_target else masked_densities(weights, self._pruned(self.target, weights))
