"""A checked search space and its points; ``config.py`` has its file's fields, ``loading.py`` reads it.

A point maps dotted paths to values. ``trial_for`` applies it to the fixed part and the recipe.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, get_args

from pydantic import BaseModel

from st3sweep.space.config import SpaceConfig
from st3sweep.space.constraints import Constraint
from st3sweep.space.grid_size import grid_size
from st3sweep.space.prices import Price
from st3sweep.trial.recipes import KINDS, resolve, with_recipe
from st3sweep.trial.registry import members_of
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.errors import Problem, SpecError
from st3sweep.util.yaml_lines import Document

Point = dict[str, Any]
ABSENT = object()


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
