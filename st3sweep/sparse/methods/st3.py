"""ST-3 and ST-3σ: soft thresholding with one global threshold, rescaling and straight-through gradients.

With p the current sparsity, c_l the layer's criterion and Q_p the p-quantile over all weights of the model:

    τ   = Q_p(|θ| c_l),  τ_l = τ / c_l                         threshold
    m   = |θ| > τ_l                                            mask
    ρ   = (mean(|θ| m) + 1e-6) / (mean(|θ|) + 1e-6)            per output channel
    s   = 1.01 / (ρ + 0.01)                                    rescaling, outside the gradient
    θ̂   = s sign(θ) (|θ| - τ_l) m                              sparse weights
    ∂L/∂θ := ∂L/∂θ̂                                             straight-through, pruned weights included

p follows a cubic ramp to the target; at p = 0 nothing is thresholded. Threshold, mask and scale are refreshed from the
new weights after every optimiser step, after the end of the ramp too. With a budget of multiply-accumulates, p is the
fraction of them to remove, and τ the least threshold that leaves at most the rest. With the criterion ``lamp``, its
scores (``sparse/lamp.py``) decide how many weights of each layer are pruned, and τ_l is the magnitude at that count.

Source: Vanderschueren & De Vleeschouwer, WACV 2023 (arXiv 2212.01076), sections 3.1-3.3, and the authors' released
constants. Differs from the paper: none; ``soft``, ``rescale`` and ``backward`` switch its parts off one by one, and the
criterion ``family`` and the budget are additions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from st3sweep.networks.flops import over_budget
from st3sweep.sparse import flat
from st3sweep.sparse.criteria import layer_scales
from st3sweep.sparse.flat import Group, constant, groups, renewed
from st3sweep.sparse.lamp import lamp_thresholds
from st3sweep.sparse.method import Method, Weights
from st3sweep.sparse.threshold import global_threshold, mac_threshold
from st3sweep.trial.fields import fail
from st3sweep.trial.schedules import ramp
from st3sweep.trial.settings import TrialSettings
from st3sweep.trial.sparsity import MethodConfig, Ramp, register_method
from st3sweep.util.errors import UserError

_NONE = -1.0  # threshold of every layer where nothing is pruned, of a step whose sparsity only the device knows


@register_method
class ST3Config(MethodConfig):
    """Settings of ST-3 and ST-3σ, with a switch for each of their parts."""

    takes_gflops_budget: ClassVar[bool] = True

    method: Literal["st3"] = "st3"
    target: float | None = Field(None, ge=0, lt=1)  # final fraction of zeros; or else gflops.target
    criterion: Literal["l1", "sigma", "lamp", "family"] = "l1"
    shape_power: float | None = Field(None, ge=-4, le=4)  # a and b of criterion family: (0, 0) is l1, (1, 0) sigma
    mac_power: float | None = Field(None, ge=-4, le=4)
    soft: bool = True
    rescale: bool = True
    backward: Literal["straight_through", "masked"] = "straight_through"
    ramp: Ramp

    @property
    def label(self) -> str:
        """Return the paper's name of the method, with every part that is switched off."""
        name = {"l1": "ST-3", "sigma": "ST-3σ", "lamp": "ST-3 LAMP", "family": "ST-3ab"}[self.criterion]
        off = [word for word, on in (("soft", self.soft), ("rescale", self.rescale)) if not on]
        masked = ["masked"] if self.backward == "masked" else []
        return " ".join([name, *(f"no-{word}" for word in off), *masked])

    def check(self, trial: TrialSettings) -> None:
        if self.target is None and trial.gflops is None:
            raise fail("sparsity.target", "is missing (or gflops.target in its place)")
        if self.target is not None and trial.gflops is not None:
            raise fail("gflops.target", "excludes sparsity.target: give one of them", "sparsity.target")
        if trial.gflops is not None and self.criterion == "lamp":
            raise fail("gflops.target", "excludes criterion lamp, which counts weights", "sparsity.criterion")
        if trial.gflops is not None and trial.optim.weight_decay.kind == "by_target":
            message = "by_target needs sparsity.target, which a budget in gflops replaces"
            raise fail("optim.weight_decay.kind", message, "gflops.target")
        for name in ("shape_power", "mac_power"):
            given = getattr(self, name) is not None
            if given and self.criterion != "family":
                raise fail(f"sparsity.{name}", f"has no effect with criterion {self.criterion}", "sparsity.criterion")
            if not given and self.criterion == "family":
                raise fail(f"sparsity.{name}", "is missing with criterion family", "sparsity.criterion")
        self.ramp.check(trial.train.epochs)

    def ramp_progress(self, progress: float, epochs: int) -> float:
        return self.ramp.at(progress, epochs)

    def build(self, weights: Weights, trial: TrialSettings, macs_per_weight: Sequence[float]) -> ST3:
        budget = None if trial.gflops is None else trial.gflops.target
        return ST3(weights, self, epochs=trial.train.epochs, macs_per_weight=macs_per_weight, gflops_budget=budget)


class ST3(Method):
    """ST-3 on ``weights``: ``ST3(weights, target=0.9)``, or with all settings, ``ST3(weights, config, epochs=160)``.

    Without a ``config``, ``target`` is the final fraction of zeros, and the cubic ramp to it goes from ``start`` to
    ``end``, fractions of training (the paper's for CIFAR). ``epochs`` is needed where a config's times are in epochs.
    ``macs_per_weight`` is how often an image uses each weight of a layer, MAC_l / numel_l (default 1).
    ``gflops_budget`` replaces ``config.target``: 1e9 multiply-accumulates of one image left at the end. Both
    sparsities are then fractions of the dense model's multiply-accumulates, not of its weights. Raises UserError for a
    budget above what the dense model costs.
    """

    eager_because = ""

    def __init__(
        self,
        weights: Weights,
        config: ST3Config | None = None,
        *,
        target: float | None = None,
        criterion: Literal["l1", "sigma"] = "l1",
        start: float = 5 / 160,
        end: float = 80 / 160,
        epochs: int = 1,
        macs_per_weight: Sequence[float] | None = None,
        gflops_budget: float | None = None,
    ):
        if config is None:
            config = ST3Config(target=target, criterion=criterion, ramp=Ramp(start=start, end=end, power=3.0))
        self.macs_per_weight = list(macs_per_weight or [1.0] * len(weights))
        self.macs = sum(use * weight.numel() for use, weight in zip(self.macs_per_weight, weights, strict=True))
        self.budgeted = gflops_budget is not None
        self.target_sparsity = config.target or 0.0
        if gflops_budget is not None:
            self.target_sparsity = self._macs_to_remove(gflops_budget)
        self.soft, self.rescale = config.soft, config.rescale
        self.straight_through = config.backward == "straight_through"
        self.ramp = config.ramp.fractions(epochs)
        self.lamp = config.criterion == "lamp"
        scores, shapes = "l1" if self.lamp else config.criterion, [weight.shape for weight in weights]
        powers = (config.shape_power or 0.0, config.mac_power or 0.0)
        self.scales = layer_scales(scores, shapes, self.macs_per_weight, *powers)
        self.tau: Tensor | None = None  # threshold of each layer, (layers,); None or _NONE while nothing is pruned

    def _macs_to_remove(self, gflops: float) -> float:
        """Return the fraction of the dense model's multiply-accumulates beyond the budget."""
        dense = self.macs / 1e9
        if message := over_budget(gflops, dense):
            raise UserError(f"gflops.target: {message}")
        return 1.0 - gflops / dense

    def schedule(self, progress: float) -> tuple[float, ...]:
        self.scheduled_sparsity = self.target_sparsity * ramp(progress, *self.ramp)
        return (self.scheduled_sparsity,)

    @torch.no_grad()
    def refresh(self, progress: float, weights: Weights) -> None:
        numbers = self.schedule(progress)
        if flat.launch_bound(weights[0]):
            self.refresh_from(weights[0].new_full((1,), *numbers, dtype=torch.float64), weights)
        else:
            self.tau = None if numbers == (0.0,) else self._layer_thresholds(weights, *numbers)

    @torch.no_grad()
    def refresh_from(self, numbers: Tensor, weights: Weights) -> None:
        (sparsity,) = numbers
        tau = self._layer_thresholds(weights, sparsity)
        self.tau = renewed(self.tau, tau.masked_fill_(sparsity == 0.0, _NONE))

    def _layer_thresholds(self, weights: Weights, sparsity: float | Tensor) -> Tensor:
        if self.lamp:
            return lamp_thresholds(weights, sparsity)
        if self.budgeted:
            tau = mac_threshold(weights, self.macs_per_weight, (1.0 - sparsity) * self.macs, self.scales)
        else:
            tau = global_threshold(weights, sparsity, self.scales)
        return tau / constant(tuple(self.scales), tau.dtype, tau.device)

    @torch.no_grad()
    def projected_densities(self, weights: Weights) -> list[float] | None:
        if self.at_target:
            return None
        taus = self._layer_thresholds(weights, self.target_sparsity)
        alive = [torch.count_nonzero(weight.abs() > tau) for weight, tau in zip(weights, taus, strict=True)]
        counts = torch.stack(alive).tolist()  # one host-device synchronisation
        return [count / weight.numel() for count, weight in zip(counts, weights, strict=True)]

    @torch.no_grad()
    def sparsify(self, weights: Weights) -> list[Tensor] | None:
        if self.tau is None:
            return None
        sparse = []
        for group in groups(weights):
            theta, tau = group.flatten(weights), group.of_layers(self.tau)
            found = soft_threshold(theta, tau, soft=self.soft, rescaled=group if self.rescale else None)
            if flat.launch_bound(theta):  # the host does not know whether anything is pruned
                torch.where(self.tau[0] == _NONE, theta, found, out=found)
            sparse += group.unflatten(found)
        return sparse

    @torch.no_grad()
    def transform_gradients(self, progress: float, weights: Weights, optimizer: torch.optim.Optimizer) -> None:  # noqa: ARG002
        if self.straight_through or self.tau is None:
            return
        gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
        for group in groups(weights):
            kept = group.flatten(weights).abs() > group.of_layers(self.tau)
            group.write(group.flatten(gradients).mul_(kept), gradients)

    def dense_gradients(self, steps: int) -> float:  # noqa: ARG002
        return float(self.straight_through)

    def thresholds(self) -> Tensor | None:
        if self.tau is not None and self.scheduled_sparsity:
            return self.tau
        return torch.zeros(len(self.scales), device=None if self.tau is None else self.tau.device)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "tau": self.tau if self.scheduled_sparsity else None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.tau = None if state["tau"] is None else torch.stack([*state["tau"]])  # of older checkpoints a list


def soft_threshold(theta: Tensor, tau: Tensor, *, soft: bool = True, rescaled: Group | None = None) -> Tensor:
    """Return θ̂ of a row θ by the equations above; ``tau`` broadcasts to it, and s is that of the group ``rescaled``."""
    magnitude = theta.abs()
    mask = magnitude > tau
    scale = None if rescaled is None else channel_scale(rescaled, magnitude, mask)
    kept = (magnitude.sub_(tau) if soft else magnitude).mul_(mask)  # in place: a model can be large
    if rescaled is not None and scale is not None:
        rescaled.scale_channels_(kept, scale)
    return kept.copysign_(theta)


def channel_scale(group: Group, magnitude: Tensor, mask: Tensor) -> Tensor:
    """Return s of each output channel of the group."""
    rho = (group.channel_means(magnitude * mask) + 1e-6) / (group.channel_means(magnitude) + 1e-6)
    return 1.01 / (rho + 0.01)
