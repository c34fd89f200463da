"""Convert searched fields and points to Optuna's parameters and back: name, distribution, scaled value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from st3sweep.space.distributions import Distribution, FloatRange, IntRange, scaled, unscaled
from st3sweep.space.space import Point, Space


@dataclass(frozen=True)
class Parameter:
    """The searched field at ``path`` as an Optuna parameter; a log1m range appears in the study as -log(1 - x)."""

    path: str
    searched: Distribution

    @property
    def _log1m(self) -> bool:
        return isinstance(self.searched, FloatRange) and self.searched.scale == "log1m"

    @property
    def name(self) -> str:
        return f"-log(1-{self.path})" if self._log1m else self.path

    @cached_property
    def distribution(self) -> BaseDistribution:
        if isinstance(self.searched, FloatRange):
            low, high = self.searched.float_
            if self._log1m:
                return FloatDistribution(scaled(low, "log1m"), scaled(high, "log1m"))
            return FloatDistribution(low, high, log=self.searched.scale == "log")
        if isinstance(self.searched, IntRange):
            values = self.searched.values()
            return IntDistribution(values[0], values[-1], step=self.searched.step)
        return CategoricalDistribution(self.searched.choice)

    def to_study(self, value: Any) -> Any:
        """Convert a point's value to the study's scale."""
        if not self._log1m:
            return value
        assert isinstance(self.distribution, FloatDistribution)
        return min(max(scaled(value, "log1m"), self.distribution.low), self.distribution.high)

    def to_point(self, value: Any) -> Any:
        """Convert a value of the study to the point's scale."""
        return self.searched.clamp(unscaled(value, "log1m")) if self._log1m else value  # type: ignore[union-attr]


class Parameters:
    """All searched fields of a space as parameters, each after those in its ``when``."""

    def __init__(self, space: Space):
        self.all = [Parameter(path, space.config.search[path]) for path in space.order()]

    def to_study(self, point: Mapping[str, Any]) -> dict[str, Any]:
        return {one.name: one.to_study(point[one.path]) for one in self.all if one.path in point}

    def distributions(self, point: Mapping[str, Any]) -> dict[str, BaseDistribution]:
        return {one.name: one.distribution for one in self.all if one.path in point}

    def to_point(self, params: Mapping[str, Any]) -> Point:
        return {one.path: one.to_point(params[one.name]) for one in self.all if one.name in params}
