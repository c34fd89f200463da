"""Start a sweep from earlier runs (``warm_start.from``): reuse their results, and try the points of their fronts first.

A finished trial's result is reused when the sweep proposes the same trial: same digest, seed, number of workers and,
where the dataset's name does not identify its contents, folder. It is not reused if ``wall_seconds`` is an objective,
nor if the tables lack an objective. Latencies are another machine's perhaps, so they are predicted anew.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import cache
from typing import Any

from pydantic import ValidationError

from st3sweep.pareto import pareto_mask
from st3sweep.space.first_points import NotInSpace, as_point
from st3sweep.space.measuring import LATENCY
from st3sweep.space.space import ABSENT, Point, Space, look_up
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.errors import Problem, ResultsError

# Columns that describe the trial in its own run, not its result
_OF_THE_RUN = (
    "trial", "status", "error", "digest", "method", "model", "dataset", "seed", "sparsity_target", "gflops_target",
    "replicate_of", "reused_from", "rung", "workers", "gpu_hours", "cost", "params", "spec",
    "latency_ms", "latency_predicted_ms", "latency_disturbed",
)  # fmt: skip
Row = dict[str, Any]


class EarlierRuns:
    """The runs of ``warm_start.from``; ``hints`` are the points of their fronts that lie in the space."""

    def __init__(self, space: Space):
        self.space = space
        self.hints: list[tuple[str, Point]] = []
        self._finished: dict[str, tuple[str, Row]] = {}
        self._layers = cache(_layers)  # a folder is read once, when its first trial is reused
        for folder in space.config.warm_start.from_ if space.config.warm_start else []:
            rows = _finished(folder)
            if not {"wall_seconds"} & set(space.config.objective_names()):
                for row in reversed(rows):  # the first of several counts
                    self._finished[_identity(row["spec"], row["workers"])] = (folder, row)
            self.hints += [(f"{folder}, trial {row['trial']}", point) for row, point in front_points(space, rows)]

    @property
    def count(self) -> int:
        """Return how many trials have results that can be reused."""
        return len(self._finished)

    def result(self, trial: TrialSettings) -> Row | None:
        """Return an earlier run's result of this same trial, its source in ``reused_from``; None if there is none."""
        identity = _identity(trial, self.space.config.resources.workers)
        if identity not in self._finished:
            return None
        folder, row = self._finished[identity]
        result = {name: value for name, value in row.items() if name not in _OF_THE_RUN and value is not None}
        if any(metric not in result and metric != LATENCY for metric in self.space.config.objective_names()):
            return None
        return {
            **result,
            "layers": self._layers(folder).get(row["trial"], []),
            "reused_from": f"{folder}, trial {row['trial']}",
        }


def front_points(space: Space, rows: list[Row]) -> list[tuple[Row, Point]]:
    """Return rows on the front of the space's objectives, without replicates, and their points, if in the space."""
    goals = [(metric, goal) for metric, goal in space.config.goals() if rows and metric in rows[0]]
    own = [row for row in rows if row.get("replicate_of") is None]
    if not goals or not own:
        return []
    values = [[math.nan if row[metric] is None else row[metric] for metric, _ in goals] for row in own]
    front = pareto_mask(values, [goal for _, goal in goals])
    points = [(row, _point(space, row["spec"])) for row, on_front in zip(own, front, strict=True) if on_front]
    return [(row, point) for row, point in points if point]


def _point(space: Space, trial: TrialSettings) -> Point | None:
    """Return the trial's values of the searched fields; None if one lies outside its range."""
    fields, values = trial.model_dump(mode="json"), dict[str, Any]()
    for path in space.order():
        if space.active(path, values) and (value := look_up(fields, path)) is not ABSENT and value is not None:
            values[path] = value
    try:
        point = as_point(space, values)
    except NotInSpace:
        return None
    return point if space.allows(point) else None


def check_earlier_runs(space: Space) -> Iterator[Problem]:
    """Yield a problem for each folder of ``warm_start.from`` that is not a run with finished trials."""
    for index, folder in enumerate(space.config.warm_start.from_ if space.config.warm_start else []):
        try:
            message = None if _finished(folder) else _why_none(folder)
        except ResultsError as error:
            message = str(error)
        if message:
            problem = space.document.problem(("warm_start", "from", index), message)
            yield problem.named(f"warm_start.from[{index}]")


def _why_none(folder: str) -> str:
    if any(row["status"] == "finished" for row in _rows(folder, "trials")):
        return f"{folder}: no finished trial there can be read by this version and the plugins that are named"
    return f"{folder}: no trial has finished there"


def _finished(folder: str) -> list[Row]:
    """Return the rows of finished trials, with the spec parsed from its JSON. Raises ResultsError."""
    rows = []
    for row in _rows(folder, "trials"):
        try:
            spec = TrialSettings.model_validate(json.loads(row["spec"])) if row["status"] == "finished" else None
        except ValidationError:
            continue  # of another version, with other fields: its numbers do not hold for a trial of this one
        if spec is not None:
            rows.append({**row, "spec": spec})
    return rows


def _layers(folder: str) -> dict[int, list[Row]]:
    """Return the rows of the layers, by trial."""
    found: dict[int, list[Row]] = {}
    for row in _rows(folder, "layers"):
        found.setdefault(row["trial"], []).append({name: row[name] for name in row if name != "trial"})
    return found


def _rows(folder: str, name: str) -> list[Row]:
    """Return a table's rows: None for null, and int for integers that pandas turned into floats because of a null."""
    from st3sweep.runs import tables  # pandas and pyarrow: a sweep without earlier runs saves the second

    whole = {field.name for field in tables.SCHEMAS[name] if str(field.type) == "int64"}
    records: list[Any] = tables.read_table(folder, name).to_dict("records")
    return [{column: _plain(value, column in whole) for column, value in row.items()} for row in records]


def _plain(value: Any, whole: bool) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return int(value) if whole else value


def _identity(trial: TrialSettings, workers: Any) -> str:
    return f"{trial.identity()} {workers} {trial.data.place}"
