"""Gather what the report shows of one or several runs, as plain data that becomes JSON.

All numbers are those of the tables: percent for accuracies, fractions for sparsity, gflops in 1e9 multiply-accumulates.
Those of trials keep every digit. Nothing here is HTML: the page inserts each value as text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from st3sweep.analysis.axes import METHODS
from st3sweep.analysis.dominance import dominance, sentences
from st3sweep.analysis.fronts import COSTS, OBJECTIVES, Objectives, finished, front, is_replicate, mark_front
from st3sweep.analysis.plots import METRICS
from st3sweep.analysis.published_points import published
from st3sweep.analysis.report.histories import curves_of, has_table, layers_of, rungs_of, timeline_of
from st3sweep.analysis.report.origin import origin_of
from st3sweep.analysis.report.settings_that_matter import importance_in_words, importance_of
from st3sweep.analysis.report.words import summary
from st3sweep.analysis.seeds import front_probability, means, over_seeds
from st3sweep.analysis.tables import flops_unit, objectives_of, run_labels
from st3sweep.runs.tables import TRIALS, is_own_metric, read_table
from st3sweep.util.version import __version__

# Columns of the page's table of trials that come from ``runs.tables.TRIALS`` as they are.
COLUMNS = (
    "trial", "status", "error", "replicate_of", "reused_from", "method", "model", "dataset", "seed", "sparsity_target",
    "gflops_target", "sparsity", "val_top1", "test_top1", "val_top5", "test_top5", "gflops", "gflops_dense",
    "training_gflops", "best_epoch", "epochs", "precision", "wall_seconds", "gpu_hours", "cost",
)  # fmt: skip


def report_data(*runs: Path | str, missing_ok: bool = False, brief: bool = False) -> dict[str, Any]:
    """Return everything that the report of ``runs`` shows.

    ``brief`` leaves out the importance of settings, which takes seconds. Raises ResultsError if a folder holds no table
    of trials, unless ``missing_ok``: a sweep has none at its start.
    """
    trials = _loaded(runs, missing_ok=missing_ok)
    objectives = objectives_of(*runs)
    folders = [Path(run) for run in run_labels(runs).values()]
    labels = list(run_labels(runs))
    trials = _with_seeds(trials, _objective(objectives)["key"])
    unit, scale = flops_unit(trials)
    bought = _against_published(trials, objectives)
    groups = [] if brief else importance_of(trials, objectives)
    return {
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "version": __version__,
        "title": _title(trials),
        "summary": summary(trials, objectives, [*bought[:2], importance_in_words(groups)]),
        "against": bought,
        "importance": groups,
        "unit": unit,
        "scale": scale,
        "over": _over(trials, objectives),
        "objective": _objective(objectives),
        "measures": _measures(trials, objectives),
        "methods": _methods(trials),
        "runs": [origin_of(folder, label) for folder, label in zip(folders, labels, strict=True)],
        "trials": _trials(trials, objectives, labels),
        "published": _published(trials),
        "curves": curves_of(runs, trials, _objective(objectives)["key"]),
        "layers": layers_of(runs, trials, objectives),
        "timeline": timeline_of(runs, trials),
        "rungs": rungs_of(runs),
    }


def _loaded(runs: Sequence[Path | str], *, missing_ok: bool) -> pd.DataFrame:
    """Load the trials of ``runs``, none of one that has no table yet if ``missing_ok``; column ``run`` is its label."""
    tables = [TRIALS.empty_table().to_pandas().assign(run="")]
    for label, run in run_labels(runs).items():
        if not missing_ok or has_table(run, "trials"):
            tables.append(read_table(run, "trials").assign(run=label))
    return pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)


def plain_values(values: pd.Series) -> list[Any]:
    """Return a column as JSON values: integers where all are whole by type, null for missing and non-finite ones."""
    if values.dtype == bool:
        return [bool(value) for value in values]
    if pd.api.types.is_numeric_dtype(values):
        numbers = values.to_numpy(dtype=float, na_value=np.nan)
        whole = pd.api.types.is_integer_dtype(values)
        return [None if not np.isfinite(number) else int(number) if whole else float(number) for number in numbers]
    return [None if pd.isna(value) else str(value) for value in values]


def _title(trials: pd.DataFrame) -> str:
    models, datasets = (", ".join(sorted(trials[column].dropna().unique())) for column in ("model", "dataset"))
    return f"{models or 'no model yet'} on {datasets or 'no data yet'}"


def _objective(objectives: Objectives) -> dict[str, str]:
    key, goal = next(objective for objective in objectives if objective[0] != "gflops")
    return {"key": key, "goal": goal}


def _over(trials: pd.DataFrame, objectives: Objectives) -> dict[str, Any]:
    """Return the other costs that the horizontal axis can show, by column: unit, values, and who is on their front."""
    measure = next(objective for objective in objectives if objective[0] != "gflops")
    return {
        cost: {
            "unit": unit,
            "values": plain_values(trials[cost]),
            "on_front": plain_values(mark_front(trials, (measure, (cost, "min")))["on_front"]),
        }
        for cost, unit in COSTS.items()
        if cost != "gflops" and cost in trials and trials[cost].notna().any()
    }


def _measures(trials: pd.DataFrame, objectives: Objectives) -> list[dict[str, str]]:
    """Return what the vertical axis can show: the searched measure first, then the same on the test set, and top-1."""
    searched = _objective(objectives)["key"]
    keys = dict.fromkeys([searched, searched.replace("val_", "test_", 1), "val_top1", "test_top1"])
    keys |= dict.fromkeys(column for column in map(str, trials) if is_own_metric(column))
    return [{"key": key, "label": METRICS.get(key, key.replace("_", " "))} for key in keys if key in trials]


def _methods(trials: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the methods of trials and published points with their number of style, the same in every report."""
    names = {*trials["method"].dropna(), *_published_rows(trials)["method"]}
    order = [*METHODS, *sorted(names - set(METHODS))]
    return [{"name": name, "style": number} for number, name in enumerate(order) if name in names]


def _trials(trials: pd.DataFrame, objectives: Objectives, labels: Sequence[str]) -> dict[str, list[Any]]:
    """Return the columns of the table of trials: those of the tables, and what follows from them."""
    own = [column for column in map(str, trials) if is_own_metric(column)]
    found = {name: plain_values(trials[name]) for name in (*COLUMNS, *own) if name in trials}
    found["run"] = [labels.index(label) for label in trials["run"]]
    found["params"] = [json.loads(text) if isinstance(text, str) else {} for text in trials["params"]]
    found["on_front"] = plain_values(mark_front(trials, objectives)["on_front"])
    found |= {name: plain_values(trials[name]) for name in ("seed_count", "seed_mean", "seed_half")}
    return found | _probabilities(trials, objectives)


def _with_seeds(trials: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Add how many finished trials differ from each in their seed alone, itself included, and the mean of ``metric``.

    Columns: seed_count, seed_mean, seed_half (of its 95 % interval); null for trials that have not finished.
    """
    table = means(finished(trials), ["run", "digest"], metric).drop(columns="standard_error")
    table = table.rename(columns={"seeds": "seed_count", "mean": "seed_mean", "half_width": "seed_half"}).assign(
        status="finished"
    )
    merged = trials.merge(table, on=["run", "digest", "status"], how="left")
    return merged.assign(seed_count=merged["seed_count"].astype("Int64"))


def _probabilities(trials: pd.DataFrame, objectives: Objectives) -> dict[str, list[Any]]:
    """Return the probability that each member belongs on the front, where replicates tell."""
    if objectives != OBJECTIVES or not is_replicate(finished(trials)).any():
        return {}
    everyone = over_seeds(trials)
    if not (everyone["seeds"] > 1).any():
        return {}
    members = front(everyone)
    found = members.assign(front_probability=front_probability(members, everyone))
    merged = trials[["run", "trial"]].merge(found[["run", "trial", "front_probability"]], how="left")
    return {"front_probability": plain_values(merged["front_probability"])}


def _task(trials: pd.DataFrame) -> tuple[str, str] | None:
    """Return model and dataset if the trials are of one each."""
    models, datasets = trials["model"].dropna().unique(), trials["dataset"].dropna().unique()
    return (str(models[0]), str(datasets[0])) if len(models) == len(datasets) == 1 else None


def _published_rows(trials: pd.DataFrame) -> pd.DataFrame:
    task = _task(trials)
    return published(*task) if task else published().iloc[:0]


def _published(trials: pd.DataFrame) -> list[dict[str, Any]]:
    rows = _published_rows(trials)
    columns = {name: plain_values(rows[name]) for name in ("method", "test_top1", "sparsity", "gflops", "source")}
    columns["remark"] = list(rows["remark"])
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _against_published(trials: pd.DataFrame, objectives: Objectives) -> list[str]:
    """Return what the front beats among the published points, a sentence for each; none where there are no points."""
    points = _published_rows(trials)
    if points.empty or objectives != OBJECTIVES or finished(trials).empty:
        return []
    table = dominance(trials, points)
    order = {"beats": 0, "beaten": 1, "cannot be told": 2, "neither": 3, "no cost": 4}
    ranked = table.sort_values("verdict", key=lambda verdicts: verdicts.map(order), kind="stable")
    return [f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences(ranked)]
