"""Checks of a search space beyond its types: each range against its field, random points against every rule."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from st3sweep.distributions import Choice, FloatRange
from st3sweep.errors import Problem, SpecError, near_match
from st3sweep.space import ABSENT, Point, Space, look_up
from st3sweep.spec import all_paths, fields_at
from st3sweep.validation import problems_of

_NOT_OF_A_TRIAL = ("resources", "budget", "searcher", "objectives", "name", "recipe")


def check_search(space: Space) -> Iterator[Problem]:
    """Each searched field on its own: it exists, is not fixed as well, and takes every value of its range."""
    sampler = space.spec.searcher.sampler
    for path, distribution in space.spec.search.items():
        where = ("search", path)
        fields = fields_at(path)
        if path.split(".")[0] in _NOT_OF_A_TRIAL:
            yield space.document.problem(where, "cannot be searched")
        elif not fields:
            yield space.document.problem(where, f"no such field in a trial{near_match(path, all_paths())}")
        elif look_up(space.spec.trial, path) is not ABSENT:
            yield space.document.problem(where, "is searched, but also fixed under trial; remove one")
        else:
            for value in distribution.ends():
                if (message := _refused(fields, value)) is not None:
                    yield space.document.problem(where, f"can become {value!r}: {message}")
            yield from _check_condition(space, path)
        if sampler == "grid" and isinstance(distribution, FloatRange):
            yield space.document.problem(where, "sampler grid needs choice or int here, not float")
        yield from _check_parents(space, path)
    if sampler != "grid" and space.spec.budget.trials is None:
        yield space.document.problem(("budget", "trials"), f"is missing: sampler {sampler} never ends by itself")


def _check_parents(space: Space, path: str) -> Iterator[Problem]:
    """The fixed part has mappings wherever a searched value goes below."""
    keys = path.split(".")[:-1]
    for depth in range(1, len(keys) + 1):
        node = look_up(space.spec.trial, ".".join(keys[:depth]))
        if node is not ABSENT and not isinstance(node, dict):
            message = f"must be a mapping of names to values (got {node!r}): {path} is searched below it"
            yield space.document.problem(("trial", *keys[:depth]), message)
            return


def _check_condition(space: Space, path: str) -> Iterator[Problem]:
    """What ``when`` names exists and can have the values that are waited for."""
    for other, wanted in (space.spec.search[path].when or {}).items():
        where = ("search", path, "when", other)
        if not fields_at(other):
            yield space.document.problem(where, f"no such field in a trial{near_match(other, all_paths())}")
        elif other not in space.spec.search and space.value(other, {}) is ABSENT:
            yield space.document.problem(where, "is neither searched nor fixed, so this is never active")
        elif isinstance(searched := space.spec.search.get(other), Choice):
            for value in wanted if isinstance(wanted, list) else [wanted]:
                if value not in searched.choice:
                    choices = [str(choice) for choice in searched.choice]
                    near = near_match(str(value), choices)
                    message = f"is never {value!r}; its choices: {', '.join(choices)}{near}"
                    yield space.document.problem(where, message)


def _refused(fields: list[FieldInfo], value: Any) -> str | None:
    """Why no field takes ``value``; None if one does."""
    message = None
    for field in fields:
        kind: Any = field.annotation
        if field.metadata:  # the bounds (ge, lt, ...) that stood beside the type
            kind = Annotated[(kind, *field.metadata)]
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
        try:
            adapter.validate_python(value)
            return None
        except ValidationError as error:
            message = error.errors()[0]["msg"].replace("Input should", "must")
    return message


def check_points(space: Space, points: int = 500) -> None:
    """Random points: some meet the constraints, and all that do are valid trials."""
    rng = random.Random(space.spec.seed)
    drawn = [space.draw(rng) for _ in range(points)]
    allowed = [point for point in drawn if space.allows(point)]
    if not allowed:
        texts = "; ".join(space.spec.constraints)
        message = f"none of {points} random points of the space satisfies them: {texts}"
        raise SpecError([space.document.problem(("constraints",), message)])
    for point in allowed:
        try:
            space.trial_for(point)
        except ValidationError as error:
            problems = problems_of(error, space.document, ("trial",))
            raise SpecError([_at_search(space, problem, point) for problem in problems]) from None


def _at_search(space: Space, problem: Problem, point: Point) -> Problem:
    """The problem, with the searched values that lead to it where the fixed part alone is not to blame."""
    part = problem.field.split(".")[0]
    involved = {path: value for path, value in point.items() if path.split(".")[0] == part}
    if not involved:
        return problem
    at = ", ".join(f"{p}={v:.4g}" if isinstance(v, float) else f"{p}={v}" for p, v in involved.items())
    if problem.field in involved:
        mark = space.document.marks.get(("search", problem.field))
        if mark:
            return Problem(mark[0], mark[1], mark[2], problem.field, f"{problem.message}, at {at}")
    return Problem(problem.where, problem.line, problem.column, problem.field, f"{problem.message}, at {at}")
