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


def _ramped(settings: dict[str, Any], start: float = 0.0, end: float = 0.5) -> dict[str, Any]:
    """``settings`` with ``ramp_start``, ``ramp_end`` and ``ramp_power`` gathered into the field ``ramp``."""
    given = {name: settings.pop(f"ramp_{name}") for name in ("start", "end", "power") if f"ramp_{name}" in settings}
    return {"ramp": {"start": start, "end": end, "power": 3.0, **given}, **settings}


def st3(
    weights: Weights,
    *,
    macs_per_weight: Sequence[float] | None = None,
    gflops_budget: float | None = None,
    **settings: Any,
) -> ST3:
    config = ST3Config(**_ramped(settings))
    return ST3(weights, config, epochs=EPOCHS, macs_per_weight=macs_per_weight, gflops_budget=gflops_budget)


def gmp(weights: Weights, **settings: Any) -> GMP:
    return GMP(weights, GMPConfig(**_ramped(settings)), epochs=EPOCHS)


def static(weights: Weights, *, seed: int = 0, **settings: Any) -> Static:
    return Static(weights, StaticConfig(**settings), seed=seed)


def rigl(weights: Weights, *, seed: int = 0, **settings: Any) -> RigL:
    return RigL(weights, RigLConfig(**settings), epochs=EPOCHS, seed=seed)


def granet(weights: Weights, *, seed: int = 0, **settings: Any) -> GraNet:
    return GraNet(weights, GraNetConfig(**_ramped(settings)), epochs=EPOCHS, seed=seed)


def dnw(weights: Weights, **settings: Any) -> DNW:
    return DNW(weights, DNWConfig(**settings))


def str_(weights: Weights, *, momentum: float, **settings: Any) -> STR:
    return STR(weights, STRConfig(**settings), momentum=momentum)


def probmask(weights: Weights, *, seed: int = 0, **settings: Any) -> ProbMask:
    return ProbMask(weights, ProbMaskConfig(**_ramped(settings, 0.16, 0.6)), epochs=EPOCHS, seed=seed)
