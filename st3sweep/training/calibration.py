"""The start value of STR's s for a wanted sparsity: a guess, and short pilot trainings that correct it.

A pilot is the whole training in fewer epochs: the same schedules over training, and a weight decay that is larger by as
much as the training is shorter, so that it shrinks weights and s alike by the end. s also moves faster by as much, so
that the gradient weighs against the decay as it would. From pilot to pilot the start value follows the line through
what they came to, in log(-s) and the logit of the sparsity.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from st3sweep import data
from st3sweep.schedules import weight_decay_by_target
from st3sweep.sparse.method import Weights
from st3sweep.sparse.threshold import global_threshold
from st3sweep.spec import StepSchedule, TrialSpec, fraction
from st3sweep.spec.optim import ConstantDecay
from st3sweep.spec.sparsity import STR, Calibration
from st3sweep.training.optim import learning_rate, weight_decay
from st3sweep.training.world import World
from st3sweep.whole_file import written

FILE, _PILOTS = "calibration.json", "pilots"
_SLOPES = (-6.0, -3.0, -1.0)  # of logit(sparsity) over log(-s): the steepest, the usual and the flattest
_STRIDE = 1.0  # in log(-s), from one pilot to the next
_SHORTEST = 4  # epochs: what fewer come to says little of the whole training


@dataclass(frozen=True)
class Pilot:
    """One short training: ``length`` as a fraction of the whole one, and the sparsity at its end."""

    length: float
    s_init: float
    sparsity: float
    seconds: float
    training_gflops: float


@dataclass(frozen=True)
class Calibrated:
    """The start value, and what all pilots together took to find it."""

    s_init: float
    seconds: float
    training_gflops: float


def calibrate(
    spec: TrialSpec,
    weights: Weights,
    steps_per_epoch: int,
    world: World,
    folder: Path,
    splits: data.Splits,
    fit: Callable[..., dict[str, Any]],
) -> Calibrated:
    """The start value for ``sparsity.target``, the same on all ranks.

    Pilots train in ``folder`` by ``fit``, so that they too go on after an interruption; what they came to is left
    there in calibration.json, which a later call takes at its word. They never see the test set.
    """
    found = world.from_main(_read(folder / FILE) if world.is_main else None)
    if found is None:
        pilots: list[Pilot] = []

        def sparsity_of(s_init: float, epochs: int) -> float:
            place = folder / _PILOTS / str(len(pilots))
            result = fit(pilot(spec, epochs, s_init), world, lambda _: False, place, replace(splits, test=None))
            length, spent = epochs / spec.train.epochs, (result["wall_seconds"], result["training_gflops"])
            pilots.append(Pilot(length, s_init, result["sparsity"], *spent))
            return result["sparsity"]

        s_init = search(spec, first_guess(spec, weights, steps_per_epoch), sparsity_of)
        found = {"s_init": s_init, "pilots": [asdict(each) for each in pilots]}
        if world.is_main:
            _write(folder / FILE, found)
            shutil.rmtree(folder / _PILOTS, ignore_errors=True)
    seconds, gflops = (sum(each[what] for each in found["pilots"]) for what in ("seconds", "training_gflops"))
    return Calibrated(found["s_init"], seconds, gflops)


def search(spec: TrialSpec, guess: float, sparsity_of: Callable[[float, int], float]) -> float:
    """The start value, below 0, for the whole training; ``sparsity_of(s_init, epochs)`` trains a pilot."""
    assert isinstance(spec.sparsity, STR)
    settings, target, whole = spec.sparsity.calibrate or Calibration(), _target(spec), spec.train.epochs
    epochs = min(whole, max(_SHORTEST, round(fraction(settings.pilot, whole) * whole)))
    tried: list[tuple[float, float]] = []  # (s_init, sparsity)
    s_init = guess
    while len(tried) < settings.runs:
        tried.append((s_init, sparsity_of(s_init, epochs)))
        s_init = next_start(tried, target)
        if abs(tried[-1][1] - target) < settings.tolerance / 4:
            break
    return s_init


def next_start(tried: Sequence[tuple[float, float]], target: float) -> float:
    """Where the line through ``tried`` (s_init, sparsity) meets ``target``, from the one that is nearest to it.

    The slope is that of all of them by least squares, within ``_SLOPES``: what two pilots next to each other differ by
    may be chance.
    """
    points = [(math.log(-s), _logit(sparsity)) for s, sparsity in tried]
    x, y = min(points, key=lambda point: abs(point[1] - _logit(target)))
    x_mean, y_mean = (sum(values) / len(points) for values in zip(*points, strict=True))
    spread = sum((x - x_mean) ** 2 for x, _ in points)
    steepest, usual, flattest = _SLOPES
    slope = sum((x - x_mean) * (y - y_mean) for x, y in points) / spread if spread else usual
    slope = max(steepest, min(flattest, slope))
    return -math.exp(x + max(-_STRIDE, min(_STRIDE, (_logit(target) - y) / slope)))


def first_guess(spec: TrialSpec, weights: Weights, steps_per_epoch: int) -> float:
    """s_init from which weight decay alone would end at the threshold that the ``weights`` before training need.

    Without a gradient, s(t) = s_init exp(-Σ lr wd / (1 - momentum)), to first order.
    """
    steps = spec.train.epochs * steps_per_epoch
    shrinking = sum(learning_rate(spec, step, steps) * weight_decay(spec, step, steps, 0.0) for step in range(steps))
    sparsity: Any = spec.sparsity
    exponent = shrinking * sparsity.s_lr_ratio * sparsity.s_decay_ratio / (1.0 - spec.optim.momentum)
    tau = float(global_threshold(weights, _target(spec)))
    return min(-0.1, _logit(tau)) * math.exp(min(exponent, 20.0))


def pilot(spec: TrialSpec, epochs: int, s_init: float) -> TrialSpec:
    """``spec`` in ``epochs`` epochs, from ``s_init``."""
    short, whole = epochs / spec.train.epochs, spec.train.epochs
    sparsity: Any = spec.sparsity
    schedule, decay = spec.optim.schedule, spec.optim.weight_decay
    times: dict[str, Any] = {"warmup": fraction(schedule.warmup, whole)}
    if isinstance(schedule, StepSchedule):
        times["milestones"] = tuple(fraction(time, whole) for time in schedule.milestones)
    if decay.kind == "by_target":
        value = weight_decay_by_target(spec.model.name, _target(spec))
        faster: Any = ConstantDecay(kind="constant", value=value / short)
    else:
        faster = decay.model_copy(update={"value": decay.value / short})
    optim = {"schedule": schedule.model_copy(update=times), "weight_decay": faster}
    train = {"epochs": epochs, "finetune_epochs": 0, "finetune_lr": None, "bn_recalibration": 0}
    ratios = {"s_lr_ratio": sparsity.s_lr_ratio / short, "s_decay_ratio": sparsity.s_decay_ratio * short}
    return spec.model_copy(
        update={
            "train": spec.train.model_copy(update=train),
            "optim": spec.optim.model_copy(update=optim),
            "sparsity": STR(method="str", s_init=s_init, **ratios),
        }
    )


def _target(spec: TrialSpec) -> float:
    assert spec.sparsity.target is not None
    return spec.sparsity.target


def _logit(sparsity: float) -> float:
    """Kept finite where a pilot pruned nothing, or everything."""
    sparsity = min(0.999, max(0.001, sparsity))
    return math.log(sparsity / (1.0 - sparsity))


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text()) if path.is_file() else None


def _write(path: Path, found: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with written(path) as file:
        file.write(json.dumps(found, indent=2).encode() + b"\n")
