"""STR: learn one soft threshold per layer, which weight decay raises.

With s_l one number a layer and σ the logistic function, g = ∂L/∂θ̂:

    τ_l   = σ(s_l)                                 threshold
    m     = |θ| > τ_l                              mask
    θ̂     = sign(θ) (|θ| - τ_l) m                  sparse weights
    ∂L/∂θ = g m
    ∂L/∂s = -σ'(s) Σ g sign(θ) m                   over the weights of the layer

s starts far below 0, where τ and σ' vanish. It is trained by SGD like the weights: weight decay pulls it towards 0, so
that τ rises, and the gradient opposes this once thresholding raises the loss. The final sparsity is an outcome of the
start value and of the decay; it is not scheduled.

Source: Kusupati et al., ICML 2020 (arXiv 2002.03231), with one s for each layer. Differs from the paper: none; a
learning rate and a weight decay of s that are not the weights', and the start value for a wanted sparsity
(``calibrate``), are additions. Tested against the authors' code (``tests/data/parity``): threshold, gradients, a short
training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from st3sweep.sparse import flat
from st3sweep.sparse.flat import groups, renewed
from st3sweep.sparse.method import Method, Weights
from st3sweep.sparse.methods.st3 import soft_threshold
from st3sweep.sparse.threshold import global_threshold
from st3sweep.trial.fields import Frozen, Time, fail, fraction
from st3sweep.trial.optim import ConstantDecay, StepSchedule
from st3sweep.trial.rates import learning_rate, weight_decay
from st3sweep.trial.schedules import weight_decay_by_target
from st3sweep.trial.settings import TrialSettings
from st3sweep.trial.sparsity import MethodConfig, register_method

_SLOPES = (-6.0, -3.0, -1.0)  # of logit(sparsity) over log(-s): the steepest, the usual and the flattest
_STRIDE = 1.0  # in log(-s), from one pilot to the next
_SHORTEST = 4  # epochs: shorter pilots say little about the whole training


class CalibrationConfig(Frozen):
    """Settings of the search for the start value that leads to a target sparsity."""

    pilot: Time = 0.1  # length of a pilot training, at least four epochs
    runs: int = Field(6, ge=1)  # pilots at most
    tolerance: float = Field(0.05, gt=0, lt=1)  # an epoch whose sparsity is this close to the target is at it


@register_method
class STRConfig(MethodConfig):
    """Settings of STR; the sparsity is an outcome of ``s_init`` and the weight decay."""

    method: Literal["str"] = "str"
    s_init: float | None = Field(None, le=0)  # start value of every layer's s; its threshold is the logistic of s
    target: float | None = Field(None, gt=0, lt=1)  # in place of s_init: the fraction of zeros to calibrate it for
    calibrate: CalibrationConfig | None = None
    s_lr_ratio: float = Field(1.0, gt=0)  # learning rate and weight decay of s, relative to those of the weights
    s_decay_ratio: float = Field(1.0, ge=0)

    @property
    def label(self) -> str:
        return "STR"

    @property
    def calibration(self) -> CalibrationConfig:
        """Return ``calibrate``, or its default."""
        return self.calibrate or CalibrationConfig()

    def check(self, trial: TrialSettings) -> None:
        if self.s_init is None and self.target is None:
            raise fail("sparsity.s_init", "is missing (or sparsity.target in its place)")
        if self.s_init is not None and self.target is not None:
            raise fail("sparsity.s_init", "excludes sparsity.target: give one of them", "sparsity.target")
        if self.s_init is not None and self.calibrate is not None:
            raise fail("sparsity.calibrate", "has no effect with s_init; it finds s_init for sparsity.target")
        if self.calibrate is not None and fraction(self.calibrate.pilot, 1) == 0:
            raise fail("sparsity.calibrate.pilot", "must be above 0")
        kind = trial.optim.weight_decay.kind
        if kind == "with_sparsity":
            message = "with_sparsity needs a scheduled sparsity; with method str it depends on the decay itself"
            raise fail("optim.weight_decay.kind", message, "sparsity.method")
        if kind == "by_target" and self.target is None:
            message = "by_target needs sparsity.target, which s_init replaces"
            raise fail("optim.weight_decay.kind", message, "sparsity.s_init")

    def build(self, weights: Weights, trial: TrialSettings, macs_per_weight: Sequence[float]) -> STR:  # noqa: ARG002
        return STR(weights, self, momentum=trial.optim.momentum)


class STR(Method):
    """STR on ``weights``; ``momentum`` is that of the SGD of s.

    The end of training always counts as at the target. With a ``target``, for which ``s_init`` is calibrated before
    training, so does any time at which the sparsity is within the tolerance of it.
    """

    eager_because = ""

    def __init__(self, weights: Weights, config: STRConfig, *, momentum: float):
        self.config = config
        start = math.nan if config.s_init is None else config.s_init  # until it is calibrated
        self.s = weights[0].new_full((len(weights),), start).detach()  # (layers,)
        self.optimizer = torch.optim.SGD([self.s], lr=0.0, momentum=momentum)
        self.target_sparsity = self.scheduled_sparsity = config.target or 0.0
        self.progress = 0.0
        self.sparsity: Tensor | None = None  # 0-d, of a method with a target

    def prepare(
        self, trial: TrialSettings, weights: Weights, steps_per_epoch: int, pilot: Callable[[TrialSettings], float]
    ) -> dict[str, Any]:
        """Find the start value of s for the target, if there is one, by pilot trainings."""
        if self.config.target is None:
            return {}
        s_init = calibrate(trial, first_guess(trial, weights, steps_per_epoch), pilot)
        self.s.fill_(s_init)
        return {"s_init": s_init}

    @torch.no_grad()
    def refresh(self, progress: float, weights: Weights) -> None:
        self.schedule(progress)
        self._measure(weights)

    def schedule(self, progress: float) -> tuple[float, ...]:
        self.progress = progress
        return ()

    @torch.no_grad()
    def refresh_from(self, numbers: Tensor, weights: Weights) -> None:  # noqa: ARG002
        self._measure(weights)

    def _measure(self, weights: Weights) -> None:
        if self.config.target is not None:
            tau = self.s.sigmoid()
            zeros = [(group.flatten(weights).abs() <= group.of_layers(tau)).sum() for group in groups(weights)]
            found = torch.stack(zeros).sum() / sum(weight.numel() for weight in weights)
            self.sparsity = renewed(self.sparsity, found)

    @torch.no_grad()
    def sparsify(self, weights: Weights) -> list[Tensor] | None:
        tau, sparse = self.s.sigmoid(), []
        for group in groups(weights):
            sparse += group.unflatten(soft_threshold(group.flatten(weights), group.of_layers(tau)))
        return sparse

    @torch.no_grad()
    def transform_gradients(self, progress: float, weights: Weights, optimizer: torch.optim.Optimizer) -> None:  # noqa: ARG002
        tau = self.s.sigmoid()
        gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
        along = []  # Σ g sign(θ) m of each layer
        for group in groups(weights):
            theta = group.flatten(weights)
            gradient = group.flatten(gradients).mul_(theta.abs() > group.of_layers(tau))
            along.append(group.reduce_layers(gradient * theta.sign(), "sum"))
            group.write(gradient, gradients)
        self.s.grad = -tau * (1.0 - tau) * torch.cat(along)

    def dense_gradients(self, steps: int) -> float:  # noqa: ARG002
        return 0.0

    @torch.no_grad()
    def step_own_parameters(self, lr: float | Tensor, weight_decay: float | Tensor) -> None:
        lr, weight_decay = lr * self.config.s_lr_ratio, weight_decay * self.config.s_decay_ratio
        if not flat.launch_bound(self.s):
            self.optimizer.param_groups[0].update(lr=lr, weight_decay=weight_decay)
            self.optimizer.step()
            return
        # torch's SGD takes no weight decay that only the device knows, and would make a new momentum buffer.
        assert self.s.grad is not None
        momentum = self.optimizer.param_groups[0]["momentum"]
        buffer = self.optimizer.state[self.s].setdefault("momentum_buffer", torch.zeros_like(self.s))
        buffer.mul_(momentum).add_(self.s.grad + self.s * weight_decay)
        self.s.sub_(buffer * lr)

    def thresholds(self) -> Tensor | None:
        return self.s.detach().sigmoid()

    @property
    def at_target(self) -> bool:
        near = (
            self.sparsity is not None
            and abs(float(self.sparsity) - self.target_sparsity) <= self.config.calibration.tolerance
        )
        return near or self.progress >= 1.0

    def state_dict(self) -> dict[str, Any]:
        own = {"progress": self.progress, "s": self.s, "sparsity": self.sparsity}
        return {**own, "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.progress, self.sparsity = state["progress"], state["sparsity"]
        self.s.copy_(state["s"])
        self.optimizer.load_state_dict(state["optimizer"])


# -- calibration of the start value: a guess, and pilot trainings that correct it ------------------------------------


def calibrate(trial: TrialSettings, guess: float, sparsity_of: Callable[[TrialSettings], float]) -> float:
    """Return the start value, below 0, of the whole training; ``sparsity_of(settings)`` trains a pilot."""
    settings, target, whole = _config(trial).calibration, _target(trial), trial.train.epochs
    epochs = min(whole, max(_SHORTEST, round(fraction(settings.pilot, whole) * whole)))
    tried: list[tuple[float, float]] = []  # (s_init, sparsity)
    s_init = guess
    while len(tried) < settings.runs:
        tried.append((s_init, sparsity_of(pilot_settings(trial, epochs, s_init))))
        s_init = next_start(tried, target)
        if abs(tried[-1][1] - target) < settings.tolerance / 4:
            break
    return s_init


def next_start(tried: Sequence[tuple[float, float]], target: float) -> float:
    """Extrapolate the start value for ``target`` from the nearest of the pilots ``tried`` (s_init, sparsity).

    The slope is that of all pilots by least squares, within ``_SLOPES``: two similar pilots may differ by chance.
    """
    points = [(math.log(-s), _logit(sparsity)) for s, sparsity in tried]
    x, y = min(points, key=lambda point: abs(point[1] - _logit(target)))
    x_mean, y_mean = (sum(values) / len(points) for values in zip(*points, strict=True))
    spread = sum((x - x_mean) ** 2 for x, _ in points)
    steepest, usual, flattest = _SLOPES
    slope = sum((x - x_mean) * (y - y_mean) for x, y in points) / spread if spread else usual
    slope = max(steepest, min(flattest, slope))
    return -math.exp(x + max(-_STRIDE, min(_STRIDE, (_logit(target) - y) / slope)))


def first_guess(trial: TrialSettings, weights: Weights, steps_per_epoch: int) -> float:
    """Return the s_init from which weight decay alone ends at the threshold that the initial ``weights`` need.

    Without a gradient, s(t) = s_init exp(-Σ lr wd / (1 - momentum)), to first order.
    """
    steps = trial.train.epochs * steps_per_epoch
    shrinking = sum(learning_rate(trial, step, steps) * weight_decay(trial, step, steps, 0.0) for step in range(steps))
    config = _config(trial)
    exponent = shrinking * config.s_lr_ratio * config.s_decay_ratio / (1.0 - trial.optim.momentum)
    tau = float(global_threshold(weights, _target(trial)))
    return min(-0.1, _logit(tau)) * math.exp(min(exponent, 20.0))


def pilot_settings(trial: TrialSettings, epochs: int, s_init: float) -> TrialSettings:
    """Return the settings of a pilot: ``trial`` shortened to ``epochs`` epochs, from ``s_init``.

    It has the same schedules over training, and a weight decay larger by the factor by which training is shorter, so
    that it shrinks weights and s as much by the end. s moves faster by the same factor, which keeps the balance of
    gradient and decay.
    """
    whole = trial.train.epochs
    short, config = epochs / whole, _config(trial)
    schedule, decay = trial.optim.schedule, trial.optim.weight_decay
    times: dict[str, Any] = {"warmup": fraction(schedule.warmup, whole)}
    if isinstance(schedule, StepSchedule):
        times["milestones"] = tuple(fraction(time, whole) for time in schedule.milestones)
    if decay.kind == "by_target":
        value = weight_decay_by_target(trial.model.label, _target(trial))
        faster: Any = ConstantDecay(kind="constant", value=value / short)
    else:
        faster = decay.model_copy(update={"value": decay.value / short})
    optim = {"schedule": schedule.model_copy(update=times), "weight_decay": faster}
    train = {"epochs": epochs, "finetune_epochs": 0, "finetune_lr": None, "bn_recalibration": 0}
    ratios = {"s_lr_ratio": config.s_lr_ratio / short, "s_decay_ratio": config.s_decay_ratio * short}
    return trial.model_copy(
        update={
            "train": trial.train.model_copy(update=train),
            "optim": trial.optim.model_copy(update=optim),
            "sparsity": config.model_copy(update={"s_init": s_init, "target": None, "calibrate": None, **ratios}),
        }
    )


def _config(trial: TrialSettings) -> STRConfig:
    assert isinstance(trial.sparsity, STRConfig)
    return trial.sparsity


def _target(trial: TrialSettings) -> float:
    assert trial.sparsity.final_sparsity is not None
    return trial.sparsity.final_sparsity


def _logit(sparsity: float) -> float:
    """Return the logit, finite where a pilot pruned nothing, or everything."""
    sparsity = min(0.999, max(0.001, sparsity))
    return math.log(sparsity / (1.0 - sparsity))
