"""``SweepSpec``: a search space as its YAML file reads; ``Space``: the same, checked, with its points.

A point of the space is a mapping from dotted paths to values. ``trial_for`` lays it over the fixed part and the recipe.
Reading a file is in ``loading.py``.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, model_validator

from st3sweep.constraints import Constraint
from st3sweep.distributions import Distribution
from st3sweep.errors import SpecError
from st3sweep.recipes import resolve, with_recipe
from st3sweep.spec import Frozen, TrialSpec, fail, fields_at
from st3sweep.yaml_file import Document

Point = dict[str, Any]
ABSENT = object()


class Objective(Frozen):
    """A column of the results that the search improves. Test accuracy is not among them."""

    metric: Literal["val_top1", "val_loss", "gflops", "sparsity", "wall_seconds"]
    goal: Literal["max", "min"]


class SearcherSpec(Frozen):
    """Optuna's sampler. ``startup_trials`` are random ones before TPE starts; NSGA-II has ``population``."""

    sampler: Literal["tpe", "nsga2", "random", "grid"] = "tpe"
    startup_trials: int | None = Field(None, ge=1)
    population: int | None = Field(None, ge=2)

    @model_validator(mode="after")
    def _used(self) -> SearcherSpec:
        if self.startup_trials is not None and self.sampler != "tpe":
            raise fail("searcher.startup_trials", f"has no effect with sampler {self.sampler}")
        if self.population is not None and self.sampler != "nsga2":
            raise fail("searcher.population", f"has no effect with sampler {self.sampler}")
        return self


class Budget(Frozen):
    """When the sweep ends. A grid ends by itself."""

    trials: int | None = Field(None, ge=1)  # failed ones included


class Resources(Frozen):
    """What one trial runs on. ``slots`` trials run at a time; null: as many as the cluster holds."""

    workers: int = Field(1, ge=1)
    cpus_per_worker: int = Field(1, ge=1)
    gpus_per_worker: float = Field(0, ge=0)
    slots: int | None = Field(None, ge=1)


class SweepSpec(Frozen):
    """A search space as its YAML file reads."""

    schema_: Literal["st3sweep/v1"] = Field(alias="schema")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    seed: int = Field(0, ge=0, lt=2**31)  # of the search, and of every trial that fixes none of its own
    trial: dict[str, Any]
    search: dict[str, Distribution] = Field(min_length=1)
    constraints: list[str] = []
    objectives: list[Objective] = Field(
        default=[Objective(metric="val_top1", goal="max"), Objective(metric="gflops", goal="min")], min_length=1
    )
    searcher: SearcherSpec = SearcherSpec()
    budget: Budget = Budget()
    resources: Resources = Resources()

    def goals(self) -> list[tuple[str, str]]:
        """The objectives as (metric, goal) pairs."""
        return [(objective.metric, objective.goal) for objective in self.objectives]


@dataclass(frozen=True)
class Space:
    """A checked SweepSpec with its constraints parsed."""

    spec: SweepSpec
    constraints: tuple[Constraint, ...]
    document: Document

    def active(self, path: str, point: Mapping[str, Any]) -> bool:
        """Whether ``path`` is searched at ``point``: the fields that it waits for are settled there."""
        when = self.spec.search[path].when
        return when is None or all(
            self.value(other, point) in (wanted if isinstance(wanted, list) else [wanted])
            for other, wanted in when.items()
        )

    def value(self, path: str, point: Mapping[str, Any]) -> Any:
        if path in self.spec.search:
            return point.get(path, ABSENT)
        return look_up(with_recipe(self.spec.trial), path)

    def order(self) -> list[str]:
        """Searched paths, each after those that its ``when`` names. Raises SpecError where they wait in a circle."""
        ordered: list[str] = []
        waiting = dict(self.spec.search)
        while waiting:
            ready = [p for p, d in waiting.items() if not any(other in waiting for other in d.when or {})]
            if not ready:
                first = next(iter(waiting))
                raise SpecError([self.document.problem(("search", first, "when"), "waits for itself in a circle")])
            ordered += ready
            for path in ready:
                del waiting[path]
        return ordered

    def draw(self, rng: random.Random) -> Point:
        """A random point, constraints not looked at."""
        point: Point = {}
        for path in self.order():
            if self.active(path, point):
                point[path] = self.spec.search[path].draw(rng)
        return point

    def grid(self) -> Iterator[Point]:
        """All points of a space of choices and whole numbers that meet the constraints, in the file's order."""
        for point in self._grid(self.order(), {}):
            if self.allows(point):
                yield point

    def _grid(self, paths: list[str], point: Point) -> Iterator[Point]:
        if not paths:
            yield dict(point)
            return
        head, *rest = paths
        if not self.active(head, point):
            yield from self._grid(rest, point)
            return
        for value in self.spec.search[head].values():  # type: ignore[union-attr]
            yield from self._grid(rest, {**point, head: value})

    def raw_trial(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """The ``trial`` part with ``point`` laid over it; the recipe is not in it yet."""
        trial = copy.deepcopy(self.spec.trial)
        trial.setdefault("seed", self.spec.seed)
        for path, value in point.items():
            *parents, last = path.split(".")
            node = trial
            for key in parents:
                node = node.setdefault(key, {})
            node[last] = value
        return trial

    def trial_for(self, point: Mapping[str, Any]) -> TrialSpec:
        """The complete trial at ``point``. Raises pydantic's ValidationError."""
        return resolve(self.raw_trial(point))

    def allows(self, point: Mapping[str, Any]) -> bool:
        """Whether ``point`` meets every constraint; one that names a field which the point lacks is met."""
        return not any(constraint.violated(self._lookup(point)) for constraint in self.constraints)

    def _lookup(self, point: Mapping[str, Any]) -> Any:
        raw = with_recipe(self.raw_trial(point))

        def value(path: str) -> Any:
            found = look_up(raw, path)
            if found is ABSENT:
                defaults = [field.default for field in fields_at(path) if not field.is_required()]
                found = defaults[0] if defaults else None
            return found

        return value


def look_up(tree: Any, path: str) -> Any:
    """The value at a dotted path of nested mappings, or ABSENT."""
    for key in path.split("."):
        if not isinstance(tree, Mapping) or key not in tree:
            return ABSENT
        tree = tree[key]
    return tree
