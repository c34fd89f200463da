"""ST-3 and ST-3σ: straight-through gradients, soft thresholding, rescaling; one threshold for the whole network.

With p the current sparsity, c_l the layer's criterion and Q_p the p-quantile over all weights of the network:

    τ   = Q_p(|θ| c_l),  τ_l = τ / c_l                         threshold
    m   = |θ| > τ_l                                            mask
    ρ   = (mean(|θ| m) + 1e-6) / (mean(|θ|) + 1e-6)            per output channel
    s   = 1.01 / (ρ + 0.01)                                    rescaling, outside the gradient
    θ̂   = s sign(θ) (|θ| - τ_l) m                              sparse weights
    ∂L/∂θ := ∂L/∂θ̂                                             straight-through, pruned weights included

p follows a cubic ramp to the target; at p = 0 nothing is thresholded. Threshold, mask and scale are refreshed from the
new weights after every optimiser step, after the end of the ramp too. With a budget of multiply-accumulates, p is the
fraction of them that has gone, and τ the least threshold that leaves no more than the rest. With the criterion ``lamp``
its scores (``sparse/lamp.py``) decide how many weights each layer loses, and τ_l is the magnitude at that count.

Source: Vanderschueren & De Vleeschouwer, WACV 2023 (arXiv 2212.01076), sections 3.1-3.3, and the authors' released
constants. Differs from the paper: none; ``soft``, ``rescale`` and ``backward`` switch its parts off one by one, and the
criterion ``family`` and the budget are additions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from st3sweep.schedules import ramp
from st3sweep.sparse.criteria import layer_scales
from st3sweep.sparse.lamp import lamp_thresholds
from st3sweep.sparse.method import Method, Weights
from st3sweep.sparse.threshold import global_threshold, mac_threshold


class ST3(Method):
    """``target`` in [0, 1) is the fraction that falls: of the weights, or of the multiply-accumulates with ``of_macs``.

    ``uses`` is how often an image uses each weight of a layer, MAC_l / numel_l (default 1); ``criterion`` l1 (ST-3),
    sigma (ST-3σ), lamp, which counts weights only, or family with its two powers; ``ramp_*`` are fractions of training.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        target: float,
        of_macs: bool = False,
        uses: Sequence[float] | None = None,
        criterion: str = "l1",
        shape_power: float = 0.0,
        mac_power: float = 0.0,
        soft: bool = True,
        rescale: bool = True,
        straight_through: bool = True,
        ramp_start: float = 0.0,
        ramp_end: float = 0.5,
        ramp_power: float = 3.0,
    ):
        self.target, self.of_macs = target, of_macs
        self.soft, self.rescale, self.straight_through = soft, rescale, straight_through
        self.ramp = (ramp_start, ramp_end, ramp_power)
        self.uses = list(uses or [1.0] * len(weights))
        self.macs = sum(use * weight.numel() for use, weight in zip(self.uses, weights, strict=True))
        shapes = [weight.shape for weight in weights]
        self.lamp = criterion == "lamp"
        self.scales = layer_scales("l1" if self.lamp else criterion, shapes, self.uses, shape_power, mac_power)
        self.tau: list[Tensor] | None = None  # threshold of each layer, 0-d; None while nothing is pruned

    @torch.no_grad()
    def refresh(self, progress: float, weights: Weights) -> None:
        self.ratio = self.target * ramp(progress, *self.ramp)
        self.tau = None if self.ratio == 0.0 else self._layer_thresholds(weights, self.ratio)

    def _layer_thresholds(self, weights: Weights, ratio: float) -> list[Tensor]:
        if self.lamp:
            return lamp_thresholds(weights, ratio)
        if self.of_macs:
            tau = mac_threshold(weights, self.uses, (1.0 - ratio) * self.macs, self.scales)
        else:
            tau = global_threshold(weights, ratio, self.scales)
        return [tau / scale for scale in self.scales]

    @torch.no_grad()
    def projected_densities(self, weights: Weights) -> list[float] | None:
        if self.at_target:
            return None
        taus = self._layer_thresholds(weights, self.target)
        alive = [torch.count_nonzero(weight.abs() > tau) for weight, tau in zip(weights, taus, strict=True)]
        counts = torch.stack(alive).tolist()  # waits for the device once
        return [count / weight.numel() for count, weight in zip(counts, weights, strict=True)]

    @torch.no_grad()
    def sparsify(self, weights: Weights) -> list[Tensor] | None:
        if self.tau is None:
            return None
        return [
            soft_threshold(weight, tau, soft=self.soft, rescale=self.rescale)
            for weight, tau in zip(weights, self.tau, strict=True)
        ]

    @torch.no_grad()
    def pull_back(self, progress: float, weights: Weights, optimizer: torch.optim.Optimizer) -> None:  # noqa: ARG002
        if self.straight_through or self.tau is None:
            return
        for weight, tau in zip(weights, self.tau, strict=True):
            if weight.grad is not None:
                weight.grad.mul_(weight.abs() > tau)

    def dense_gradients(self, steps: int) -> float:  # noqa: ARG002
        return float(self.straight_through)

    def thresholds(self) -> list[float | None]:
        return [0.0] * len(self.scales) if self.tau is None else [*torch.stack(self.tau).tolist()]

    def state_dict(self) -> dict[str, Any]:
        return {"ratio": self.ratio, "tau": self.tau}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.ratio, self.tau = state["ratio"], state["tau"]


def soft_threshold(weight: Tensor, tau: Tensor, *, soft: bool = True, rescale: bool = True) -> Tensor:
    """θ̂ of one layer. ``weight`` has its output channels on axis 0; ``tau`` is a 0-d tensor. See the module."""
    magnitude = weight.abs()
    mask = magnitude > tau
    scale = channel_scale(magnitude, mask) if rescale else None
    kept = (magnitude.sub_(tau) if soft else magnitude).mul_(mask)  # in place: a layer can be large
    if scale is not None:
        kept.mul_(scale)
    return kept.copysign_(weight)


def channel_scale(magnitude: Tensor, mask: Tensor) -> Tensor:
    """s per output channel, shaped to broadcast: ``(C_out, 1, ...)``."""
    axes: Sequence[int] = range(1, magnitude.dim())
    kept = (magnitude * mask).mean(dim=tuple(axes), keepdim=True)
    rho = (kept + 1e-6) / (magnitude.mean(dim=tuple(axes), keepdim=True) + 1e-6)
    return 1.01 / (rho + 0.01)
