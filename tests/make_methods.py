"""Build methods on a test's weights: settings by keyword, the ramp's times as fractions of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from st3sweep.sparse.methods.dnw import DNW, DNWConfig
from st3sweep.sparse.methods.gmp import GMP, GMPConfig
from st3sweep.sparse.methods.granet import GraNet, GraNetConfig
from st3sweep.sparse.methods.probmask import ProbMask, ProbMaskConfig
from st3sweep.sparse.methods.rigl import RigL, RigLConfig
from st3sweep.sparse.methods.st3 import ST3, ST3Config
from st3sweep.sparse.methods.static import Static, StaticConfig
from st3sweep.sparse.methods.str import STR, STRConfig

Weights = Sequence[Tensor]
EPOCHS = 100  # of the training; times given as fractions do not depend on it


def _ramped(start: float, end: float, power: float, settings: dict[str, Any]) -> dict[str, Any]:
    return {"ramp": {"start": start, "end": end, "power": power}, **settings}


def st3(
    weights: Weights,
    *,
    ramp_start: float = 0.0,
    ramp_end: float = 0.5,
    ramp_power: float = 3.0,
    macs_per_weight: Sequence[float] | None = None,
    gflops_budget: float | None = None,
    **settings: Any,
) -> ST3:
    config = ST3Config(**_ramped(ramp_start, ramp_end, ramp_power, settings))
    return ST3(weights, config, epochs=EPOCHS, macs_per_weight=macs_per_weight, gflops_budget=gflops_budget)


def gmp(
    weights: Weights, *, ramp_start: float = 0.0, ramp_end: float = 0.5, ramp_power: float = 3.0, **settings: Any
) -> GMP:
    return GMP(weights, GMPConfig(**_ramped(ramp_start, ramp_end, ramp_power, settings)), epochs=EPOCHS)


def static(weights: Weights, *, seed: int = 0, **settings: Any) -> Static:
    return Static(weights, StaticConfig(**settings), seed=seed)


def rigl(weights: Weights, *, seed: int = 0, **settings: Any) -> RigL:
    return RigL(weights, RigLConfig(**settings), epochs=EPOCHS, seed=seed)


def granet(
    weights: Weights,
    *,
    ramp_start: float = 0.0,
    ramp_end: float = 0.5,
    ramp_power: float = 3.0,
    seed: int = 0,
    **settings: Any,
) -> GraNet:
    config = GraNetConfig(**_ramped(ramp_start, ramp_end, ramp_power, settings))
    return GraNet(weights, config, epochs=EPOCHS, seed=seed)


def dnw(weights: Weights, **settings: Any) -> DNW:
    return DNW(weights, DNWConfig(**settings))


def str_(weights: Weights, *, momentum: float, **settings: Any) -> STR:
    return STR(weights, STRConfig(**settings), momentum=momentum)


def probmask(
    weights: Weights,
    *,
    ramp_start: float = 0.16,
    ramp_end: float = 0.6,
    ramp_power: float = 3.0,
    seed: int = 0,
    **settings: Any,
) -> ProbMask:
    config = ProbMaskConfig(**_ramped(ramp_start, ramp_end, ramp_power, settings))
    return ProbMask(weights, config, epochs=EPOCHS, seed=seed)
