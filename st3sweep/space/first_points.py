"""Complete and check the points that a sweep tries first, ``warm_start.points``.

A point may lack fields, which the sampler then chooses. Its ``recipe`` gives the values of this recipe to searched
fields where they are in range; the point's other values override them.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from st3sweep.space.distributions import Distribution, FloatRange, IntRange
from st3sweep.space.field_errors import problems_of
from st3sweep.space.space import ABSENT, Point, Space, look_up
from st3sweep.trial.recipes import NAMES, with_recipe
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.errors import Problem, near_match, near_path, shown

_COMPLETIONS = 1000


class NotInSpace(Exception):
    """The values are not a point of the space; ``message`` says what is wrong with ``path``."""

    def __init__(self, path: str, message: str):
        super().__init__(f"{path}: {message}")
        self.path, self.message = path, message


def first_points(space: Space) -> list[tuple[str, Point]]:
    """Return ``warm_start.points`` as (name, point), with the values of their recipes."""
    written = space.config.warm_start.points if space.config.warm_start else []
    return [(f"points[{index}]", as_point(space, _laid_over_recipe(space, one))) for index, one in enumerate(written)]


def as_point(space: Space, values: Mapping[str, Any]) -> Point:
    """Convert ``values`` of searched fields to a point of the space, or part of one. Raises NotInSpace."""
    for path in values:
        if path not in space.config.search:
            fixed = look_up(space.config.trial, path) is not ABSENT
            near = "; it is fixed under trial" if fixed else near_path(path, space.config.search)
            raise NotInSpace(path, f"is not searched{near}")
    point: Point = {}
    for path in space.order():
        if path in values:
            _check_condition(space, path, point)
            point[path] = _value(path, space.config.search[path], values[path])
    return point


def _check_condition(space: Space, path: str, point: Point) -> None:
    for other in space.config.search[path].when or {}:
        if space.value(other, point) is ABSENT:
            raise NotInSpace(path, f"needs {other} in the same point: it decides whether this field is searched")
    if not space.active(path, point):
        waits_for = space.config.search[path].when or {}
        others = ", ".join(f"{other}={shown(space.value(other, point))}" for other in waits_for)
        raise NotInSpace(path, f"is not searched, at {others}")


def _value(path: str, searched: Distribution, value: Any) -> Any:
    """Return ``value`` with the distribution's type, e.g. 1.0 for 1. Raises NotInSpace if it is out of range."""
    if isinstance(searched, FloatRange):
        low, high = searched.float_
        if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
            return float(value)
        raise NotInSpace(path, f"is {shown(value)}, searched from {low:g} to {high:g}")
    for one in searched.values():
        if one == value and isinstance(one, bool) == isinstance(value, bool):
            return one
    if isinstance(searched, IntRange):
        low, high = searched.ends()
        steps = f" in steps of {searched.step}" if searched.step > 1 else ""
        raise NotInSpace(path, f"is {shown(value)}, searched from {low} to {high}, whole{steps}")
    choices = [one if isinstance(one, str) else shown(one) for one in searched.choice]
    raise NotInSpace(path, f"is {shown(value)}, its choices: {', '.join(choices)}{near_match(str(value), choices)}")


def _laid_over_recipe(space: Space, written: Mapping[str, Any]) -> dict[str, Any]:
    """Add the recipe's values to the point, only those that are searched there and in range."""
    own = {path: value for path, value in written.items() if path != "recipe"}
    if "recipe" not in written:
        return own
    if written["recipe"] not in NAMES:
        near = near_match(str(written["recipe"]), NAMES)
        raise NotInSpace("recipe", f"is {shown(written['recipe'])}, allowed: {', '.join(NAMES)}{near}")
    recipe = with_recipe({**space.config.trial, "recipe": written["recipe"]})
    values = {path: look_up(recipe, path) for path in space.config.search} | own
    found: dict[str, Any] = {}
    for path in space.order():
        with_it = {**found, path: values[path]}
        try:
            as_point(space, {one: value for one, value in with_it.items() if one in space.config.search})
            found = with_it
        except NotInSpace:
            continue
    return found | own


def check_first_points(space: Space) -> Iterator[Problem]:
    """Yield the problems of ``warm_start.points``: a wrong field or value, or a point that nothing completes."""
    if space.config.warm_start is None:
        return
    seen: dict[str, int] = {}
    for index, written in enumerate(space.config.warm_start.points):
        where = ("warm_start", "points", index)
        try:
            point = as_point(space, _laid_over_recipe(space, written))
        except NotInSpace as error:
            problem = space.document.problem((*where, error.path), error.message)
            yield problem.named(f"warm_start.points[{index}].{error.path}")
            continue
        message = "sets no field" if not point else _incomplete(space, point)
        same = seen.setdefault(str(point), index)
        if same != index:
            message = f"is the same as points[{same}]"
        if message:
            yield space.document.problem(where, message).named(f"warm_start.points[{index}]")


def _incomplete(space: Space, point: Point) -> str | None:
    """Return why no trial can have this point; None if one can."""
    rng = random.Random(space.config.seed)
    drawn = (space.draw(rng, point) for _ in range(_COMPLETIONS))
    allowed = list(itertools.islice(filter(space.allows, drawn), 1))
    if not allowed:
        broken = [one.text for one in space.constraints if one.violated(space.values_at(point))]
        return f"violates {broken[0]!r}" if broken else "cannot be completed within the constraints"
    try:
        space.trial_for(allowed[0])
    except ValidationError as error:
        first = problems_of(error, space.document, ("trial",), TrialSettings)[0]
        return f"is not a valid trial: {first.field}: {first.message}"
    return None
