"""STR: soft thresholds that are learned, one a layer; weight decay drives them up.

With s_l one number a layer and σ the logistic function, g = ∂L/∂θ̂:

    τ_l   = σ(s_l)                                 threshold
    m     = |θ| > τ_l                              mask
    θ̂     = sign(θ) (|θ| - τ_l) m                  sparse weights
    ∂L/∂θ = g m
    ∂L/∂s = -σ'(s) Σ g sign(θ) m                   over the weights of the layer

s starts far below 0, where τ and σ' vanish. It has the weights' own SGD: weight decay pulls it towards 0, so that τ
rises, and the gradient holds against it once thresholding hurts. How sparse the network ends is an outcome of the start
value and of the decay; no step asks for a sparsity.

Source: Kusupati et al., ICML 2020 (arXiv 2002.03231), with one s for each layer. Differs from the paper: none; a
learning rate and a weight decay of s that are not the weights', and the start value for a wanted sparsity
(``training/calibration.py``), are additions. Met against the authors' code (``tests/data/parity``): threshold,
gradients, a short training.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from st3sweep.sparse.method import Method, Weights
from st3sweep.sparse.methods.st3 import soft_threshold


class STR(Method):
    """``s_init`` is the start value of every s, ``momentum`` that of its SGD; the ratios are to the weights' settings.

    The end of training is always at the target: what the network has come to. With a ``target``, a sparsity in (0, 1)
    that ``s_init`` was chosen for, so is any time at which the sparsity is within ``tolerance`` of it.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        s_init: float,
        momentum: float,
        lr_ratio: float = 1.0,
        decay_ratio: float = 1.0,
        target: float | None = None,
        tolerance: float = 0.0,
    ):
        self.s = weights[0].new_full((len(weights),), s_init).detach()  # (layers,)
        self.optimizer = torch.optim.SGD([self.s], lr=0.0, momentum=momentum)
        self.lr_ratio, self.decay_ratio = lr_ratio, decay_ratio
        self.wanted, self.tolerance = target, tolerance
        self.target = self.ratio = target or 0.0
        self.progress = 0.0
        self.sparsity: Tensor | None = None  # 0-d, of a method with a target

    @torch.no_grad()
    def refresh(self, progress: float, weights: Weights) -> None:
        self.progress = progress
        if self.wanted is not None:
            tau = self.s.sigmoid()
            zeros = torch.stack([(weight.abs() <= tau[layer]).sum() for layer, weight in enumerate(weights)]).sum()
            self.sparsity = zeros / sum(weight.numel() for weight in weights)

    @torch.no_grad()
    def sparsify(self, weights: Weights) -> list[Tensor] | None:
        tau = self.s.sigmoid()
        return [soft_threshold(weight, tau[layer], rescale=False) for layer, weight in enumerate(weights)]

    @torch.no_grad()
    def pull_back(self, progress: float, weights: Weights, optimizer: torch.optim.Optimizer) -> None:  # noqa: ARG002
        tau = self.s.sigmoid()
        along = torch.zeros_like(tau)  # Σ g sign(θ) m of each layer
        for layer, weight in enumerate(weights):
            if weight.grad is not None:
                weight.grad.mul_(weight.abs() > tau[layer])
                along[layer] = (weight.grad * weight.sign()).sum()
        self.s.grad = -tau * (1.0 - tau) * along

    def dense_gradients(self, steps: int) -> float:  # noqa: ARG002
        return 0.0

    def step(self, lr: float, weight_decay: float) -> None:
        self.optimizer.param_groups[0].update(lr=lr * self.lr_ratio, weight_decay=weight_decay * self.decay_ratio)
        self.optimizer.step()

    def thresholds(self) -> list[float | None]:
        return [*self.s.sigmoid().tolist()]

    @property
    def at_target(self) -> bool:
        near = self.sparsity is not None and abs(float(self.sparsity) - self.target) <= self.tolerance
        return near or self.progress >= 1.0

    def state_dict(self) -> dict[str, Any]:
        own = {"progress": self.progress, "s": self.s, "sparsity": self.sparsity}
        return {**own, "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.progress, self.sparsity = state["progress"], state["sparsity"]
        self.s.copy_(state["s"])
        self.optimizer.load_state_dict(state["optimizer"])
