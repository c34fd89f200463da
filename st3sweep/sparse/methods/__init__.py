"""The methods by the name that a space gives them: one file a method, one entry here."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from st3sweep.errors import UserError
from st3sweep.sparse.method import Method, Weights
from st3sweep.sparse.methods.dnw import DNW
from st3sweep.sparse.methods.fixed_mask import FixedMask
from st3sweep.sparse.methods.gmp import GMP
from st3sweep.sparse.methods.granet import GraNet
from st3sweep.sparse.methods.probmask import ProbMask
from st3sweep.sparse.methods.rigl import RigL
from st3sweep.sparse.methods.st3 import ST3
from st3sweep.sparse.methods.static import Static
from st3sweep.sparse.methods.str import STR
from st3sweep.spec import TrialSpec, fraction
from st3sweep.spec.sparsity import Calibration


def _st3(trial: TrialSpec, weights: Weights, uses: Sequence[float]) -> Method:
    spec: Any = trial.sparsity
    return ST3(
        weights,
        target=spec.target if trial.gflops is None else _macs_to_remove(trial.gflops.target, weights, uses),
        of_macs=trial.gflops is not None,
        uses=uses,
        criterion=spec.criterion,
        shape_power=spec.shape_power or 0.0,
        mac_power=spec.mac_power or 0.0,
        soft=spec.soft,
        rescale=spec.rescale,
        straight_through=spec.backward == "straight_through",
        **_ramp(trial),
    )


def _ramp(trial: TrialSpec) -> dict[str, float]:
    """The method's ramp, its times as fractions of training."""
    shape: Any = trial.sparsity.ramp  # type: ignore[union-attr]
    start, end = fraction(shape.start, trial.train.epochs), fraction(shape.end, trial.train.epochs)
    return {"ramp_start": start, "ramp_end": end, "ramp_power": shape.power}


def _macs_to_remove(gflops: float, weights: Weights, uses: Sequence[float]) -> float:
    """The fraction of the dense network's multiply-accumulates beyond the budget."""
    dense = sum(use * weight.numel() for use, weight in zip(uses, weights, strict=True)) / 1e9
    if gflops > dense:
        raise UserError(f"gflops.target: {gflops:g} is more than the dense network's {dense:.6g}")
    return 1.0 - gflops / dense


def _gmp(trial: TrialSpec, weights: Weights, uses: Sequence[float]) -> Method:  # noqa: ARG001
    spec: Any = trial.sparsity
    return GMP(
        weights,
        target=spec.target,
        allocation=spec.allocation,
        criterion=spec.criterion,
        keep_dense=spec.keep_dense,
        **_ramp(trial),
        interval=fraction(spec.interval, trial.train.epochs),
    )


def _static(trial: TrialSpec, weights: Weights, uses: Sequence[float]) -> Method:  # noqa: ARG001
    spec: Any = trial.sparsity
    return Static(weights, target=spec.target, allocation=spec.allocation, keep_dense=spec.keep_dense, seed=trial.seed)


def _rigl(trial: TrialSpec, weights: Weights, uses: Sequence[float]) -> Method:  # noqa: ARG001
    spec: Any = trial.sparsity
    return RigL(
        weights,
        target=spec.target,
        allocation=spec.allocation,
        keep_dense=spec.keep_dense,
        drop_fraction=spec.drop_fraction,
        interval=fraction(spec.interval, trial.train.epochs),
        stop=fraction(spec.stop, trial.train.epochs),
        seed=trial.seed,
    )


def _granet(trial: TrialSpec, weights: Weights, uses: Sequence[float]) -> Method:  # noqa: ARG001
    spec: Any = trial.sparsity
    return GraNet(
        weights,
        target=spec.target,
        initial_density=spec.initial_density,
        keep_dense=spec.keep_dense,
        drop_fraction=spec.drop_fraction,
        **_ramp(trial),
        interval=fraction(spec.interval, trial.train.epochs),
        seed=trial.seed,
    )


def _dense(trial: TrialSpec, weights: Weights, uses: Sequence[float]) -> Method:  # noqa: ARG001
    return Method()


def _dnw(trial: TrialSpec, weights: Weights, uses: Sequence[float]) -> Method:  # noqa: ARG001
    spec: Any = trial.sparsity
    return DNW(weights, target=spec.target, keep_dense=spec.keep_dense)


def _str(trial: TrialSpec, weights: Weights, uses: Sequence[float]) -> Method:  # noqa: ARG001
    spec: Any = trial.sparsity
    return STR(
        weights,
        s_init=math.nan if spec.s_init is None else spec.s_init,  # until it is calibrated
        momentum=trial.optim.momentum,
        lr_ratio=spec.s_lr_ratio,
        decay_ratio=spec.s_decay_ratio,
        target=spec.target,
        tolerance=(spec.calibrate or Calibration()).tolerance,
    )


def _probmask(trial: TrialSpec, weights: Weights, uses: Sequence[float]) -> Method:  # noqa: ARG001
    spec: Any = trial.sparsity
    return ProbMask(
        weights,
        target=spec.target,
        **_ramp(trial),
        masks_per_step=spec.masks_per_step,
        score_lr=spec.score_lr,
        final_masks=spec.final_masks,
        seed=trial.seed,
    )


METHODS: dict[str, Callable[[TrialSpec, Weights, Sequence[float]], Method]] = {
    "st3": _st3,
    "dense": _dense,
    "gmp": _gmp,
    "static": _static,
    "rigl": _rigl,
    "granet": _granet,
    "dnw": _dnw,
    "str": _str,
    "probmask": _probmask,
}


def build_method(trial: TrialSpec, weights: Weights, uses: Sequence[float]) -> Method:
    """The method of ``trial`` for ``weights``, each of which an image uses ``uses`` times (MAC_l / numel_l).

    Raises UserError where a budget is more than the dense network costs.
    """
    return METHODS[trial.sparsity.method](trial, weights, uses)


def restore_method(trial: TrialSpec, weights: Weights, uses: Sequence[float], state: dict[str, Any]) -> Method:
    """The method that gave ``state``, its ``state_dict``: that of ``trial``, or the fixed mask that follows it."""
    method = FixedMask(weights, 0.0) if "fixed_masks" in state else build_method(trial, weights, uses)
    method.load_state_dict(state)
    return method
