"""Search spaces: ``SpaceConfig`` is the YAML file, ``Space`` the checked space with its points.

A point maps dotted paths to values. ``trial_for`` applies it to the fixed part and the recipe. ``loading.py`` reads
files.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, Field, field_validator, model_validator
from pydantic_core import PydanticKnownError

from st3sweep.space.constraints import Constraint
from st3sweep.space.distributions import Distribution
from st3sweep.space.early_stopping import EarlyStoppingConfig
from st3sweep.space.grid_size import grid_size
from st3sweep.space.measuring import LATENCY, SIZE, MeasureConfig
from st3sweep.space.prices import Price
from st3sweep.space.resources import Budget, Replicates, Resources
from st3sweep.trial.fields import Frozen, fail
from st3sweep.trial.recipes import KINDS, resolve, with_recipe
from st3sweep.trial.registry import members_of
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.errors import Problem, SpecError
from st3sweep.util.yaml_lines import Document

Point = dict[str, Any]
ABSENT = object()
OLD_KEYS = {"scheduler": "early_stopping"}  # keys of a space before 0.2 → now


METRICS = ("val_top1", "val_loss", "gflops", LATENCY, SIZE, "sparsity", "wall_seconds")


def _metric_name(value: Any) -> str:
    """Return the name of a built-in metric or of the form of a model's own. Raises pydantic's error for others."""
    if value not in METRICS and not (isinstance(value, str) and value.startswith("val_")):
        raise PydanticKnownError("literal_error", {"expected": " or ".join(map(repr, METRICS))})
    return str(value)


class Objective(Frozen):
    """An objective of the search: a column of the results and its goal. Test accuracy cannot be one.

    ``metric`` may be ``val_<name>`` of the model's own metric (``register_model``).
    """

    metric: Annotated[
        str,
        BeforeValidator(_metric_name),
        Field(json_schema_extra={"anyOf": [{"enum": METRICS}, {"pattern": "^val_"}]}),
    ]
    goal: Literal["max", "min"]


class SearcherConfig(Frozen):
    """Settings of the sampler: one of Optuna's (tpe, gp, nsga2, random), a Sobol' sequence (qmc) or a grid.

    TPE and the Gaussian process start after ``startup_trials`` random trials; NSGA-II has a ``population``.
    """

    sampler: Literal["tpe", "gp", "nsga2", "random", "qmc", "grid"] = "tpe"
    startup_trials: int | None = Field(None, ge=1)
    population: int | None = Field(None, ge=2)

    @model_validator(mode="after")
    def _used(self) -> SearcherConfig:
        if self.startup_trials is not None and self.sampler not in ("tpe", "gp"):
            raise fail("searcher.startup_trials", f"has no effect with sampler {self.sampler}")
        if self.population is not None and self.sampler != "nsga2":
            raise fail("searcher.population", f"has no effect with sampler {self.sampler}")
        return self


class WarmStart(Frozen):
    """Warm start: points to try first, and the folders of earlier runs.

    A trial that an earlier run finished is not run again; the front of each earlier run is tried first.
    """

    points: list[dict[str, Any]] = []
    from_: list[str] = Field([], alias="from")

    @model_validator(mode="after")
    def _something(self) -> WarmStart:
        if not self.points and not self.from_:
            raise fail("warm_start", "has no effect without points and from")
        return self


class SpaceConfig(Frozen):
    """A search space as written in its YAML file."""

    schema_: Literal["st3sweep/v1"] = Field(alias="schema")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    seed: int = Field(0, ge=0, lt=2**31)  # of the search, and of every trial without a fixed or searched seed
    trial: dict[str, Any]
    search: dict[str, Distribution] = Field(min_length=1)
    constraints: list[str] = []
    objectives: list[Objective] = Field(
        default=[Objective(metric="val_top1", goal="max"), Objective(metric="gflops", goal="min")], min_length=1
    )
    searcher: SearcherConfig = SearcherConfig()
    early_stopping: EarlyStoppingConfig = EarlyStoppingConfig()
    warm_start: WarmStart | None = None
    budget: Budget = Budget()
    replicates: Replicates | None = None
    measure: MeasureConfig = MeasureConfig()
    resources: Resources = Resources()

    @field_validator("objectives")
    @classmethod
    def _each_metric_once(cls, objectives: list[Objective]) -> list[Objective]:
        metrics = [objective.metric for objective in objectives]
        twice = next((metric for index, metric in enumerate(metrics) if metric in metrics[:index]), None)
        if twice:
            raise ValueError(f"contains {twice} twice")
        return objectives

    @model_validator(mode="after")
    def _settings_that_act(self) -> SpaceConfig:
        if self.searcher.sampler == "grid" and self.warm_start and self.warm_start.points:
            raise fail("warm_start.points", "has no effect with sampler grid, which runs every point")
        points, trials = len(self.warm_start.points) if self.warm_start else 0, self.budget.trials
        if trials is not None and points > trials:
            raise fail("warm_start.points", f"has {points} points, but budget.trials is {trials}", "budget.trials")
        if self.budget.gpu_hours is not None and not self.resources.gpus:
            raise fail("budget.gpu_hours", "has no effect: resources.gpus_per_worker is 0")
        fixed = self.trial.get("train")
        if isinstance(fixed, dict) and fixed.get("graph") == "on" and not self.resources.gpus:
            raise fail("trial.train.graph", "on needs a GPU, but resources.gpus_per_worker is 0: use auto or off")
        for field, metric in (("latency", LATENCY), ("size", SIZE)):
            off = field in self.measure.model_fields_set and not getattr(self.measure, field)
            if off and metric in self.objective_names():
                raise fail(f"measure.{field}", f"is false, but {metric} is an objective")
        data = self.trial.get("data")
        if isinstance(data, dict) and data.get("decoder") == "nvjpeg" and not self.resources.gpus:
            raise fail("trial.data.decoder", "nvjpeg needs a GPU, but resources.gpus_per_worker is 0: use pillow")
        if self.replicates and self.replicates.share is not None and not self.budget.limits():
            raise fail("replicates.share", "has no effect: budget has none of wall, gpu_hours and money")
        if self.replicates and self.objective_names()[:2] != ["val_top1", "gflops"]:
            raise fail("replicates", "needs the objectives val_top1 and gflops, in this order")
        if self.early_stopping.name != "none" and set(self.goals()) != {("val_top1", "max"), ("gflops", "min")}:
            raise fail("early_stopping", "needs the objectives val_top1 max and gflops min, and no other")
        return self

    @property
    def measures_latency(self) -> bool:
        return self.measure.latency or LATENCY in self.objective_names()

    @property
    def measures_size(self) -> bool:
        return self.measure.size or SIZE in self.objective_names()

    def objective_names(self) -> list[str]:
        """Return the metrics of the objectives."""
        return [objective.metric for objective in self.objectives]

    def goals(self) -> list[tuple[str, Literal["max", "min"]]]:
        """Return the objectives as (metric, goal) pairs."""
        return [(objective.metric, objective.goal) for objective in self.objectives]


@dataclass(frozen=True)
class Space:
    """A checked search space with parsed constraints, and its points."""

    config: SpaceConfig
    constraints: tuple[Constraint, ...]
    document: Document
    price: Price | None = None  # taken from ``budget.prices``

    def active(self, path: str, point: Mapping[str, Any]) -> bool:
        """Whether ``path`` is searched at ``point``: its ``when`` condition holds there."""
        when = self.config.search[path].when
        return when is None or all(
            self.value(other, point) in (wanted if isinstance(wanted, list) else [wanted])
            for other, wanted in when.items()
        )

    def value(self, path: str, point: Mapping[str, Any]) -> Any:
        """Return the value of ``path`` at ``point``: searched, fixed, the recipe's, or the default; else ABSENT."""
        if path in self.config.search:
            return point.get(path, ABSENT)
        return settled(with_recipe(self.config.trial), path)

    def order(self) -> list[str]:
        """Return the searched paths, each after those in its ``when``. Raises SpecError for a circular ``when``."""
        ordered: list[str] = []
        waiting = dict(self.config.search)
        while waiting:
            ready = [p for p, d in waiting.items() if not any(other in waiting for other in d.when or {})]
            if not ready:
                raise SpecError([self._circular(next(iter(waiting)), waiting)])
            ordered += ready
            for path in ready:
                del waiting[path]
        return ordered

    def _circular(self, path: str, waiting: Mapping[str, Any]) -> Problem:
        chain = [path]
        while (path := next(other for other in waiting[path].when if other in waiting)) not in chain:
            chain.append(path)
        circle = [*chain[chain.index(path) :], path]
        return self.document.problem(("search", path, "when"), f"circular `when`: {' → '.join(circle)}")

    def draw(self, rng: random.Random, fixed: Mapping[str, Any] = MappingProxyType({})) -> Point:
        """Draw a random point with the values of ``fixed``, ignoring the constraints."""
        point: Point = {}
        for path in self.order():
            if self.active(path, point):
                point[path] = fixed[path] if path in fixed else self.config.search[path].draw(rng)
        return point

    def grid(self) -> Iterator[Point]:
        """Yield all points that meet the constraints, in the file's order; for spaces of choices and integers."""
        return (point for point in self.all_points() if self.allows(point))

    def all_points(self) -> Iterator[Point]:
        """Yield all points of a space of choices and integers in the file's order, ignoring the constraints."""
        return self.points_of(self.order())

    def points_of(self, paths: Sequence[str]) -> Iterator[Point]:
        """Yield all combinations of the values of ``paths``, in order, ignoring the constraints."""
        return self._grid(list(paths), {})

    def _grid(self, paths: list[str], point: Point) -> Iterator[Point]:
        if not paths:
            yield dict(point)
            return
        head, *rest = paths
        if not self.active(head, point):
            yield from self._grid(rest, point)
            return
        for value in self.config.search[head].values():  # type: ignore[union-attr]
            yield from self._grid(rest, {**point, head: value})

    def expected_trials(self) -> int | None:
        """Return how many trials the search will have; None if only a limit other than trials ends it."""
        budget = self.config.budget.trials
        if self.config.searcher.sampler != "grid":
            return budget
        return grid_size(self, budget).points

    def raw_trial(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``trial`` with the values of ``point``, the recipe not yet applied."""
        trial = copy.deepcopy(self.config.trial)
        trial.setdefault("seed", self.config.seed)
        for path, value in point.items():
            *parents, last = path.split(".")
            node = trial
            for key in parents:
                node = node.setdefault(key, {})
            node[last] = value
        return trial

    def trial_for(self, point: Mapping[str, Any]) -> TrialSettings:
        """Return the complete trial at ``point``. Raises pydantic's ValidationError."""
        return resolve(self.raw_trial(point))

    def allows(self, point: Mapping[str, Any]) -> bool:
        """Whether ``point`` meets every constraint; one on a field that the point lacks is met."""
        if not self.constraints:
            return True
        value = self.values_at(point)
        return not any(constraint.violated(value) for constraint in self.constraints)

    def values_at(self, point: Mapping[str, Any]) -> Callable[[str], Any]:
        """Return the lookup for constraints: path → value at ``point``, times as fractions; None if absent."""
        whole: list[Any] = []  # the trial, built only for a path that is not searched

        def value(path: str) -> Any:
            if path in self.config.search:
                return point.get(path)
            if not whole:
                whole.append(with_recipe(self.raw_trial(point)))
            found, epochs = settled(whole[0], path), look_up(whole[0], "train.epochs")
            if isinstance(found, Mapping) and isinstance(found.get("epochs"), int | float) and isinstance(epochs, int):
                return found["epochs"] / epochs
            return None if found is ABSENT else found

        return value


def look_up(tree: Any, path: str) -> Any:
    """Return the value at a dotted path of nested mappings, or ABSENT."""
    for key in path.split("."):
        if not isinstance(tree, Mapping) or key not in tree:
            return ABSENT
        tree = tree[key]
    return tree


def settled(tree: Any, path: str, model: type[BaseModel] = TrialSettings) -> Any:
    """Return ``look_up``, or else the default of a node of this kind; ABSENT if it has no such field."""
    head, _, rest = path.partition(".")
    if head not in model.model_fields or not isinstance(tree, Mapping):
        return ABSENT
    info, given = model.model_fields[head], tree.get(head, ABSENT)
    if not rest:
        return info.get_default() if given is ABSENT and not info.is_required() else given
    below = {} if given is ABSENT else given
    kinds = [kind for kind in members_of(info.annotation) if _is_of_kind(below, kind)]
    return settled(below, rest, kinds[0]) if kinds else ABSENT


def _is_of_kind(tree: Any, model: type[BaseModel]) -> bool:
    kinds = {name: get_args(model.model_fields[name].annotation) for name in KINDS if name in model.model_fields}
    return isinstance(tree, Mapping) and all(tree.get(name) in allowed for name, allowed in kinds.items())
