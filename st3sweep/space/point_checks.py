"""Check sample points of a space: some meet the constraints, and all that do are valid trials."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

from pydantic import ValidationError

from st3sweep.space.field_errors import problems_of
from st3sweep.space.grid_size import grid_size
from st3sweep.space.search_checks import SAME_FOR_EVERY_TRIAL
from st3sweep.space.space import Point, Space
from st3sweep.trial.recipes import KINDS
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.errors import Problem, SpecError, shown
from st3sweep.util.yaml_lines import Path_

_POINTS, _DRAWS = 300, 10_000


def check_points(space: Space) -> None:
    """Raise SpecError if no sampled point meets the constraints, or one that does is not a valid trial."""
    is_grid = space.config.searcher.sampler == "grid"
    rng = random.Random(space.config.seed)
    whole = is_grid and grid_size(space).points <= _POINTS  # else random points, of a grid too
    stream = space.all_points() if whole else (space.draw(rng) for _ in itertools.count())
    drawn: list[Point] = []
    allowed: list[Point] = []
    for point in itertools.islice(stream, _DRAWS):
        drawn.append(point)
        if space.allows(point):
            allowed.append(point)
        if len(drawn) == _POINTS and not allowed:
            _validate(space, drawn[0], but_rules=True)  # a wrong value may be why no point meets the constraints
        if len(allowed) == _POINTS and not whole:
            break
    for point in allowed:
        _check_workers(space, _validate(space, point), point)
    if not allowed:
        _validate(space, drawn[0], but_rules=True)
        what = f"the {len(drawn):,} points of the grid" if whole else f"{len(drawn):,} random points"
        raise SpecError([_unsatisfied(space, drawn, what)])


def _validate(space: Space, point: Point, but_rules: bool = False) -> TrialSettings | None:
    """Return the trial at ``point``. With ``but_rules`` a broken rule between fields is allowed and gives None.

    Constraints may exclude such points. Raises SpecError.
    """
    try:
        return space.trial_for(point)
    except ValidationError as error:
        if but_rules and error.errors()[0]["type"] == "rule":
            return None
        problems = problems_of(error, space.document, ("trial",), TrialSettings)
        raise SpecError([at_search(space, problem, point) for problem in problems]) from None


def _unsatisfied(space: Space, points: Sequence[Point], what: str) -> Problem:
    """Name the constraint that no point meets, or all of them if only their combination fails."""
    values = [space.values_at(point) for point in points[:1000]]
    for index, constraint in enumerate(space.constraints):
        if all(constraint.violated(value) for value in values):
            reason = constraint.mismatch(values[0]) or f"none of {what} satisfies it"
            return space.document.problem(("constraints", index), f"{constraint.text!r}: {reason}")
    texts = "; ".join(space.config.constraints)
    return space.document.problem(("constraints",), f"none of {what} satisfies all of them: {texts}")


def _check_workers(space: Space, trial: TrialSettings | None, point: Point) -> None:
    batch, workers = trial.train.batch_size if trial else 0, space.config.resources.workers
    if batch % workers:
        message = f"{batch} is not a multiple of {workers} workers (resources.workers)"
        path: Path_ = ("trial", "train", "batch_size")
        if path not in space.document.marks and "train.batch_size" not in point:
            path = ("resources", "workers")
        problem = space.document.problem(path, message).named("train.batch_size")
        raise SpecError([at_search(space, problem, point)])


def at_search(space: Space, problem: Problem, point: Point) -> Problem:
    """Add the searched values that cause the problem; locate it at them if the fixed part has no line for it."""
    marks = space.document.marks
    named = (problem.field, *problem.also)
    involved = [path for path in point if any(_decides(path, field) for field in named)]
    if problem.field in space.config.search:
        mark = marks.get(("search", problem.field))
    elif ("trial", *problem.field.split(".")) in marks or not involved:
        mark = None
    else:
        mark = marks.get(("search", involved[0]))
    where, line, column = mark or (problem.where, problem.line, problem.column)
    message = problem.message
    if problem.field in point:
        message = message.removesuffix(f" (got {shown(point[problem.field])})")
    if message.startswith("is missing") and problem.field not in SAME_FOR_EVERY_TRIAL:
        message = message.replace("is missing", "is missing: neither fixed under trial nor searched")
    if message.startswith("has no effect"):
        involved = [path for path in involved if path != problem.field]
    values = ", ".join(f"{path}={shown(point[path])}" for path in involved)
    message += f", at {values}" if values else ""
    return Problem(where, line, column, problem.field, message)


def _decides(searched: str, field: str) -> bool:
    """Whether a searched path is ``field``, is below it, or is the kind of a node that contains ``field``."""
    node, _, last = searched.rpartition(".")
    return searched == field or searched.startswith(f"{field}.") or (last in KINDS and field.startswith(f"{node}."))
