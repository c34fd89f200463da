"""RigL: a sparse network whose connections move to where the gradient is largest, at a constant count a layer.

The masks start at random, K_l of n_l weights. At every update, t being the part of training that is done, before
t = T_end, for each layer:

    f     = α/2 (1 + cos(π t / T_end)),  d = nearest whole number to f K_l
    kept  = the K_l - d largest |θ| among the live
    grown = the d largest |∂L/∂θ̂| among all that are not kept
    m_l  <- kept or grown

    θ̂ = θ m,  ∂L/∂θ = m ∂L/∂θ̂

A weight that was not live before starts at 0 with momentum 0; one that was dropped and grown again goes on as it was.
∂L/∂θ̂ is the gradient of the whole layer, of pruned weights too: it is there at every step, and used at updates.

Source: Evci et al., ICML 2020 (arXiv 1911.11134), section 3 and algorithm 1. Differs from the paper: an update does not
take the place of that iteration's optimiser step but comes before it; the interval between updates is a fraction of
training, not a number of steps. An update is met against a port to torch (``tests/data/parity``).
"""

from __future__ import annotations

from typing import Any

import torch

from st3sweep.schedules import cosine, last_update
from st3sweep.sparse.allocation import allocate
from st3sweep.sparse.masked import Masked
from st3sweep.sparse.masks import random_masks
from st3sweep.sparse.method import Weights
from st3sweep.sparse.rewire import rewired


class RigL(Masked):
    """``target`` in [0, 1) is the sparsity of the layers that ``keep_dense`` does not name, throughout.

    ``drop_fraction`` is α; ``interval`` (above 0) and ``stop``, T_end, are fractions of training. The first mask is a
    function of ``seed``, the shapes and the allocation.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        target: float,
        allocation: str = "erk",
        keep_dense: str = "none",
        drop_fraction: float = 0.3,
        interval: float = 1 / 320,
        stop: float = 0.75,
        seed: int = 0,
    ):
        self.counts = allocate(allocation, [weight.shape for weight in weights], 1.0 - target, keep_dense)
        super().__init__(random_masks(weights, self.counts, seed), target=target, ratio=target)
        self.drop_fraction, self.interval, self.stop = drop_fraction, interval, stop
        self.updated = 0.0  # when masks last moved, on the grid of the interval

    def pull_back(self, progress: float, weights: Weights, optimizer: torch.optim.Optimizer) -> None:
        due = last_update(progress, 0.0, self.stop, self.interval)
        if due > self.updated:
            self.updated = due
            fraction = self.drop_fraction * cosine(progress / self.stop)
            self.masks = rewired(weights, self.masks, self.counts, fraction, optimizer)
        super().pull_back(progress, weights, optimizer)

    def dense_gradients(self, steps: int) -> float:
        times = {last_update((step + 1) / steps, 0.0, self.stop, self.interval) for step in range(steps)}
        return len(times - {0.0, self.stop}) / steps  # at the stop nothing moves any more

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "updated": self.updated}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.updated = state["updated"]
