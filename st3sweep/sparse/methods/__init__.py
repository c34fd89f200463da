"""The methods by the name that a space gives them: one file a method, one entry here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from st3sweep.sparse.method import Method, Weights
from st3sweep.sparse.methods.st3 import ST3
from st3sweep.spec import SparsitySpec, fraction


def _st3(spec: Any, weights: Weights, epochs: int) -> Method:
    return ST3(
        weights,
        target=spec.target,
        criterion=spec.criterion,
        soft=spec.soft,
        rescale=spec.rescale,
        straight_through=spec.backward == "straight_through",
        ramp_start=fraction(spec.ramp.start, epochs),
        ramp_end=fraction(spec.ramp.end, epochs),
        ramp_power=spec.ramp.power,
    )


def _dense(spec: Any, weights: Weights, epochs: int) -> Method:  # noqa: ARG001
    return Method()


METHODS: dict[str, Callable[[Any, Weights, int], Method]] = {"st3": _st3, "dense": _dense}


def build_method(spec: SparsitySpec, weights: Weights, epochs: int) -> Method:
    """The method that ``spec`` describes, for ``weights`` trained over ``epochs`` epochs."""
    return METHODS[spec.method](spec, weights, epochs)
