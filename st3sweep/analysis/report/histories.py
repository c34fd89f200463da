"""Gather what trials did while they ran: their learning curves, their layers, and the order in which they ended.

Rows are stored end to end with the place where each trial's begin, which is a fraction of the size of a list a trial.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from st3sweep.analysis.fronts import OBJECTIVES, Objectives, mark_front
from st3sweep.analysis.hypervolume_curves import hypervolume_curves
from st3sweep.analysis.layer_profiles import GROUPS, layer_profiles
from st3sweep.analysis.tables import run_labels
from st3sweep.analysis.timeline import stops_by_rung, timeline
from st3sweep.runs.manifest import MANIFEST
from st3sweep.runs.tables import SCHEMAS, read_table, table_path
from st3sweep.util.errors import ResultsError

MOST_EPOCHS = 300_000  # of all learning curves: about 5 MB


def curves_of(runs: Sequence[Path | str], trials: pd.DataFrame, metric: str) -> dict[str, Any]:
    """Return the learning curves: ``start`` (len(trials) + 1,) into epoch, value (``metric``, rounded) and sparsity.

    ``threshold`` too, null where a method has none; empty if no trial has one.

    Where there are more than ``MOST_EPOCHS`` epochs, those of the front and then of the most accurate trials are kept;
    ``left_out`` counts the trials whose curves are missing.
    """
    epochs = _of_runs("epochs", runs)
    key = metric if metric in epochs else "val_top1"
    numbers = _numbers(epochs, trials)
    kept = _kept(trials, np.bincount(numbers[numbers >= 0], minlength=len(trials)), metric)
    left_out = int((~kept & np.isin(np.arange(len(trials)), numbers)).sum())
    shown = numbers >= 0
    shown[shown] = kept[numbers[shown]]
    rows = epochs.assign(number=numbers)[shown]
    rows = rows.sort_values(["number", "epoch"], kind="stable")
    return {
        "key": key,
        "start": _starts(rows["number"], len(trials)),
        "epoch": [int(epoch) for epoch in rows["epoch"]],
        "value": _rounded(rows[key], 3),
        "sparsity": _rounded(rows["sparsity"], 4),
        "threshold": _significant(rows["threshold"], 3) if rows["threshold"].notna().any() else [],
        "left_out": left_out,
    }


def layers_of(runs: Sequence[Path | str], trials: pd.DataFrame, objectives: Objectives = OBJECTIVES) -> dict[str, Any]:
    """Return the layers of finished trials: ``start`` as in ``curves_of`` into ``layer`` and ``density``.

    ``layer`` numbers the entries of ``names``: (layer, shape, number of weights, dense multiply-accumulates).
    ``profiles`` has for each of those the median over the front, and over its neighbours, of the layer's density over
    its model's (``analysis.layer_profiles``).
    """
    layers = _of_runs("layers", runs)
    numbers = _numbers(layers, trials)
    rows = layers.assign(number=numbers)[numbers >= 0].sort_values(["number", "position"], kind="stable")
    facts = rows[["layer", "shape", "numel", "macs_dense"]]
    which = facts.groupby(list(facts), sort=False).ngroup()
    names = facts[~which.duplicated()]
    return {
        "start": _starts(rows["number"], len(trials)),
        "names": [[str(a), str(b), int(c), int(d)] for a, b, c, d in names.itertuples(index=False)],
        "layer": [int(number) for number in which],
        "density": [float(f"{density:.4g}") for density in rows["density"]],
        "profiles": _profiles(layers, trials, objectives, names["layer"].tolist()),
    }


def _profiles(
    layers: pd.DataFrame, trials: pd.DataFrame, objectives: Objectives, names: list[str]
) -> dict[str, list[float | None]]:
    """Return the median relative density of each layer, of the front and of its neighbours; {} for several models."""
    if layers.empty or trials["model"].dropna().nunique() != 1 or len(set(names)) < len(names):
        return {}
    table = layer_profiles(layers, trials, objectives)
    found = {group: rows.set_index("layer")["relative"] for group, rows in table.groupby("group")}
    return {
        group: [float(f"{found[group][name]:.4g}") if name in found[group] else None for name in names]
        for group in GROUPS[:2]
        if group in found
    }


def timeline_of(runs: Sequence[Path | str], trials: pd.DataFrame) -> dict[str, Any]:
    """Return when each trial was over in wall seconds of its run, and the hypervolume of the run's front by then.

    Both are null where a run has no ledger, or where no one reference fits all models.
    """
    nothing = [None] * len(trials)
    try:
        curves = hypervolume_curves(*runs)
    except (ResultsError, ValueError):
        return {"ended": nothing, "hypervolume": nothing}
    found = trials[["run", "trial"]].merge(curves, on=["run", "trial"], how="left")
    return {"ended": _rounded(found["wall_seconds"], 1), "hypervolume": _rounded(found["hypervolume"], 9)}


def rungs_of(runs: Sequence[Path | str]) -> list[dict[str, Any]]:
    """Return a row for each rung of early stopping: rung, reached, stopped, trained; none without early stopping."""
    if not all(has_table(run, name) for run in runs for name in ("trials", "epochs")):
        return []
    rows = stops_by_rung(timeline(*runs))
    return [
        {"rung": int(rung), "reached": int(reached), "stopped": int(stopped), "trained": _or_null(trained)}
        for rung, reached, stopped, trained in rows[["rung", "reached", "stopped", "trained"]].itertuples(index=False)
    ]


def _or_null(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def has_table(run: Path | str, name: str) -> bool:
    """Return whether ``run`` has table ``name``, as a file or, while a sweep runs, in parts."""
    return table_path(run, name).is_file() or (Path(run) / MANIFEST).is_file()


def _of_runs(name: str, runs: Sequence[Path | str]) -> pd.DataFrame:
    """Return a table of those runs that have it, with column ``run`` as in ``load_trials``; empty if none has."""
    having = {label: run for label, run in run_labels(runs).items() if has_table(run, name)}
    if not having:
        return pd.DataFrame(columns=["run", *SCHEMAS[name].names])
    return pd.concat([read_table(run, name).assign(run=label) for label, run in having.items()], ignore_index=True)


def _numbers(rows: pd.DataFrame, trials: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the place in ``trials`` of the trial of each row, (len(rows),) int64; -1 for one that is not there."""
    keys = ["run", "trial"]
    places = pd.Series(np.arange(len(trials)), index=pd.MultiIndex.from_frame(trials[keys]))
    return places.reindex(pd.MultiIndex.from_frame(rows[keys])).fillna(-1).to_numpy(dtype=np.int64)


def _kept(trials: pd.DataFrame, counts: Any, metric: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which trials' curves are kept, (len(trials),) bool."""
    values = trials[metric].to_numpy(dtype=float, na_value=np.nan)
    members = mark_front(trials)["on_front"].to_numpy()
    order = np.lexsort((np.nan_to_num(-values, nan=np.inf), ~members))
    kept = np.zeros(len(trials), dtype=bool)
    kept[order] = np.cumsum(counts[order]) <= MOST_EPOCHS
    return kept


def _starts(numbers: pd.Series, count: int) -> list[int]:
    return [int(place) for place in np.searchsorted(numbers.to_numpy(), np.arange(count + 1))]


def _significant(values: pd.Series, digits: int) -> list[float | None]:
    numbers = values.to_numpy(dtype=float, na_value=np.nan)
    return [float(f"{number:.{digits}g}") if np.isfinite(number) else None for number in numbers]


def _rounded(values: pd.Series, decimals: int) -> list[float | None]:
    numbers = values.to_numpy(dtype=float, na_value=np.nan)
    return [round(float(number), decimals) if np.isfinite(number) else None for number in numbers]
