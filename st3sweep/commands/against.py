"""Find the points that a front is compared with: published ones, or those of another run."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from st3sweep.analysis.fronts import OBJECTIVES, Objectives
from st3sweep.analysis.published_points import published
from st3sweep.analysis.tables import load_trials
from st3sweep.runs.bring import local_run
from st3sweep.util.errors import UserError


def points_against(trials: pd.DataFrame, against: str, more: Path | str | None = None) -> pd.DataFrame:
    """Return what ``against`` names, for ``analysis.dominance``: published points, or the trials of another run.

    ``against`` is the word published, the folder of a run, or a CSV file with more published points (also ``more``).
    Published points are those of the model and dataset of ``trials``. Raises UserError if there are none, or if the
    other run is of another model or dataset.
    """
    models, datasets = (sorted(trials[column].dropna().unique()) for column in ("model", "dataset"))
    if len(models) > 1 or len(datasets) > 1:
        found = ", ".join(models if len(models) > 1 else datasets)
        raise UserError(f"a comparison needs one model on one dataset, but the trials are of {found}")
    if not (models and datasets):
        raise UserError("no trial to compare")
    more = against if against.lower().endswith(".csv") else more
    task = f"{models[0]} on {datasets[0]}"
    if against == "published" or against == more:
        points = published(models[0], datasets[0], more=more)
        if points.empty:
            raise UserError(f"no published points of {task}; name a CSV file that has some")
        return points
    other = load_trials(local_run(against))
    for column, own in (("model", models[0]), ("dataset", datasets[0])):
        if wrong := sorted(set(other[column].dropna()) - {own}):
            raise UserError(f"{against}: its {column} is {', '.join(wrong)}, and not {own}: nothing to compare")
    return other


def objectives_against(objectives: Objectives, others: pd.DataFrame) -> Objectives:
    """Return what two fronts are compared by: the own metric of ``objectives`` if ``others`` have it, else accuracy."""
    (metric, _), *_ = objectives
    return objectives if "test_" + metric.removeprefix("val_") in others else OBJECTIVES
