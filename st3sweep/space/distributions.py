"""Distributions of searched fields: a range of floats or integers, or a choice; and the scale of a range."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from st3sweep.trial.fields import Frozen
from st3sweep.util.errors import shown


class _Distribution(Frozen):
    # searched only if these fields have these values (or one of a list)
    when: dict[str, Any] | None = Field(None, min_length=1)


class FloatRange(_Distribution):
    """A number between two bounds; ``log1m`` is uniform in -log(1 - x), which suits sparsities."""

    float_: tuple[float, float] = Field(alias="float")
    scale: Literal["linear", "log", "log1m"] = "linear"

    @model_validator(mode="after")
    def _bounds(self) -> FloatRange:
        low, high = self.float_
        if low >= high:
            raise ValueError(f"an empty range: the lower bound {low:g} must be below the upper bound {high:g}")
        if self.scale == "log" and low <= 0:
            raise ValueError(f"scale log needs bounds above 0, got {low:g}")
        if self.scale == "log1m" and high >= 1:
            raise ValueError(f"scale log1m needs bounds below 1, got {high:g}")
        return self

    def ends(self) -> list[Any]:
        return list(self.float_)

    def draw(self, rng: random.Random) -> float:
        low, high = (scaled(bound, self.scale) for bound in self.float_)
        return self.clamp(unscaled(rng.uniform(low, high), self.scale))

    def at(self, quantile: float) -> float:
        """Return the value at ``quantile`` in [0, 1) of the range, on its scale."""
        low, high = (scaled(bound, self.scale) for bound in self.float_)
        return self.clamp(unscaled(low + quantile * (high - low), self.scale))

    def clamp(self, value: float) -> float:
        """Clamp ``value`` to the bounds, which rounding in the scale may overstep."""
        return min(max(value, self.float_[0]), self.float_[1])


class IntRange(_Distribution):
    """An integer between two bounds, both included, in steps of ``step``."""

    int_: tuple[int, int] = Field(alias="int")
    step: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _bounds(self) -> IntRange:
        if self.int_[0] >= self.int_[1]:
            low, high = self.int_
            raise ValueError(f"an empty range: the lower bound {low} must be below the upper bound {high}")
        if len(self.values()) == 1:
            raise ValueError(f"step {self.step} leaves a single value between {self.int_[0]} and {self.int_[1]}")
        return self

    def values(self) -> Sequence[int]:
        return range(self.int_[0], self.int_[1] + 1, self.step)

    def ends(self) -> list[Any]:
        return [self.values()[0], self.values()[-1]]

    def at(self, quantile: float) -> int:
        return self.values()[int(quantile * len(self.values()))]

    def draw(self, rng: random.Random) -> int:
        return rng.choice(self.values())


class Choice(_Distribution):
    """One of a list of values."""

    choice: list[bool | int | float | str | None] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> Choice:
        if len(set(self.choice)) < len(self.choice):  # 1, 1.0 and true are one value, here as in a trial's results
            raise ValueError(f"duplicate value in {shown(self.choice)}")
        return self

    def values(self) -> Sequence[Any]:
        return self.choice

    def ends(self) -> list[Any]:
        return list(self.choice)

    def at(self, quantile: float) -> Any:
        return self.choice[int(quantile * len(self.choice))]

    def draw(self, rng: random.Random) -> Any:
        return rng.choice(self.choice)


_Curve = Callable[[float], float]
_SCALED: dict[str, _Curve] = {"linear": lambda v: v, "log": math.log, "log1m": lambda v: -math.log1p(-v)}
_UNSCALED: dict[str, _Curve] = {"linear": lambda v: v, "log": math.exp, "log1m": lambda v: -math.expm1(-v)}


def scaled(value: float, scale: str) -> float:
    """Transform ``value`` to the scale on which it is searched uniformly."""
    return _SCALED[scale](value)


def unscaled(value: float, scale: str) -> float:
    """Invert ``scaled``."""
    return _UNSCALED[scale](value)


_KINDS = {"float": FloatRange, "int": IntRange, "choice": Choice}


def _kind(value: Any) -> str | None:
    if isinstance(value, Mapping):
        found = [kind for kind in _KINDS if kind in value]
        return found[0] if len(found) == 1 else None
    return next((kind for kind, model in _KINDS.items() if isinstance(value, model)), None)


Distribution = Annotated[
    Annotated[FloatRange, Tag("float")] | Annotated[IntRange, Tag("int")] | Annotated[Choice, Tag("choice")],
    Discriminator(
        _kind,
        custom_error_type="distribution",
        custom_error_message="needs exactly one of float: [low, high], int: [low, high] or choice: [a, b, ...]",
    ),
]
