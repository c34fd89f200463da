"""Load the tables of runs, and format the front as aligned text.

Units are those of ``st3sweep.runs.tables``: accuracies in percent, sparsity as a fraction, gflops in 1e9
multiply-accumulates (1 multiply-accumulate = 1 FLOP, as the field's tables count).
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from st3sweep.analysis.fronts import COSTS, OBJECTIVES, Objectives, finished, front
from st3sweep.analysis.published_points import published as published
from st3sweep.analysis.seeds import front_probability, over_seeds
from st3sweep.runs.folder import RESOLVED
from st3sweep.runs.tables import ResultsError, is_own_metric, read_table, shown_by, table_path
from st3sweep.util import text
from st3sweep.util.text import aligned
from st3sweep.util.yaml_lines import read_yaml


def load_trials(*runs: Path | str) -> pd.DataFrame:
    """Load the trials of one or several runs in one table; column ``run`` is the name of the run's folder."""
    return _load("trials", runs)


def load_epochs(*runs: Path | str) -> pd.DataFrame:
    """Load the epochs of one or several runs, with column ``run`` as in ``load_trials``."""
    return _load("epochs", runs)


def load_layers(*runs: Path | str) -> pd.DataFrame:
    """Load the layers of one or several runs, with column ``run`` as in ``load_trials``."""
    return _load("layers", runs)


def objectives_of(*runs: Path | str) -> Objectives:
    """Return what the front of the runs is of: the same own metric of their models and gflops, if that is searched.

    Otherwise it is of validation accuracy and gflops.
    """
    return shown_by(_common_objectives(*runs))


def objectives_over(trials: pd.DataFrame, *runs: Path | str, x: str | None = None) -> Objectives:
    """Return what the front of ``trials``, those of ``runs``, is of: their accuracy and the cost ``x``.

    ``x`` is gflops, latency (``latency_ms``) or size (``size_mb``); by default what the runs were searched for beside
    accuracy, else gflops. Raises ResultsError for another, and where no trial has it.
    """
    searched = _common_objectives(*runs)
    measure, _ = accuracy = next(one for one in objectives_of(*runs) if one[0] not in COSTS)
    if x is None:
        costs = [column for column, _ in searched if column in COSTS]
        cost = costs[0] if len(costs) == 1 and len(searched) == 2 and searched[0][0] == measure else "gflops"
    else:
        cost = {"latency": "latency_ms", "size": "size_mb"}.get(x, x)
        if cost not in COSTS:
            raise ResultsError(f"--x {x}: allowed: gflops, latency, size")
    if cost != "gflops" and (cost not in trials or trials[cost].isna().all()):
        if x is None:
            return (accuracy, ("gflops", "min"))
        raise ResultsError(f"--x {x}: no trial has it; measure them with: st3sweep measure {runs[0]}")
    return (accuracy, (cost, "min"))


def _common_objectives(*runs: Path | str) -> Objectives:
    found = {_stored_objectives(Path(run)) for run in runs}
    return found.pop() if len(found) == 1 else OBJECTIVES


def _stored_objectives(run: Path) -> Objectives:
    path = run / RESOLVED
    stored = read_yaml(path).data.get("objectives") if path.is_file() else None
    return tuple((one["metric"], one["goal"]) for one in stored) if stored else OBJECTIVES


def run_folder(root: str = "runs", default: str | None = None) -> Path:
    """Find the run named by the environment variable ST3_RUN, or else the newest run in the folder ``root``.

    With ``default``, the name of a committed sweep (``committed_sweep``), that one instead of the newest. A relative
    path is searched from the working directory upwards, because a notebook runs in its own folder and not in the
    project's. Raises ResultsError if there is no run.
    """
    bases = [Path.cwd(), *Path.cwd().parents]
    if named := os.environ.get("ST3_RUN"):
        found = [base / named for base in bases if table_path(base / named, "trials").is_file()]
        if not found:
            raise ResultsError(f"ST3_RUN={named}: no trials.parquet there")
        return found[0]
    if default is not None:
        return committed_sweep(default)
    for base in bases:
        if runs := [path.parent for path in (base / root).glob("*/trials.parquet")]:
            return max(runs, key=lambda run: table_path(run, "trials").stat().st_mtime)
    raise ResultsError(f"no run in {root}/; set ST3_RUN to the folder of a run")


def committed_sweep(name: str) -> Path:
    """Return the folder of a sweep that is kept in the repository, ``docs/results/<name>``: methods, ablation, ...

    Found from the working directory upwards, or beside the package where it runs from a checkout. Raises ResultsError
    if it is in neither.
    """
    for base in (Path.cwd(), *Path.cwd().parents, Path(__file__).parents[2]):
        if table_path(base / "docs" / "results" / name, "trials").is_file():
            return base / "docs" / "results" / name
    raise ResultsError(f"no sweep docs/results/{name}: open the notebook in a checkout of the project, or set ST3_RUN")


def flops_unit(trials: pd.DataFrame) -> tuple[str, float]:
    """Return the unit to show costs in, and how many of it make one GFLOP.

    The unit is the same for all trials and their dense model: MFLOPs if all costs are below 0.1 GFLOPs, else GFLOPs.
    """
    return text.flops_unit(float(trials[["gflops", "gflops_dense"]].max().max()))


def front_table(trials: pd.DataFrame, objectives: Objectives = OBJECTIVES) -> str:
    """Format the front as text, a line a trial, sorted by its cost, columns aligned, units in the header.

    If trials have replicates, adds the number of seeds, the mean of their validation accuracies with its 95 % interval,
    and the probability that a member belongs on the front (``seeds.front_probability``).
    """
    everyone = over_seeds(trials)
    rows = front(everyone, objectives)
    if rows.empty:
        return "no trial finished"
    unit, scale = flops_unit(finished(trials))
    flops = rows["gflops"] * scale
    fewer = rows["gflops_dense"] / rows["gflops"]
    decimals = _decimals(flops.min())
    own = [column for column, _ in objectives if is_own_metric(column)]
    columns = {
        "trial": [f"{trial}" for trial in rows["trial"]],
        "method": [f"{method}" for method in rows["method"]],
        "sparsity %": [_number(100 * value, 1) for value in rows["sparsity"]],
        **{name.replace("_", " "): [f"{value:.4g}" for value in rows[name]] for name in own},
        "val top-1 %": [_number(value, 2) for value in rows["val_top1"]],
        "test top-1 %": [_number(value, 2) for value in rows["test_top1"]],
        unit: [_number(value, decimals) for value in flops],
        "fewer than dense": ["∞" if math.isinf(value) else _number(value, 1) + "×" for value in fewer],
        **_measured_columns(rows),
    }
    if objectives == OBJECTIVES and (everyone["seeds"] > 1).any():
        columns |= _seed_columns(rows, everyone)
    if "run" in rows and trials["run"].nunique() > 1:
        columns = {"run": [f"{run}" for run in rows["run"]], **columns}
    left = [place for place, name in enumerate(columns) if name in ("run", "method")]
    return aligned([tuple(columns), *zip(*columns.values(), strict=True)], left)


def json_rows(table: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """Return the rows as JSON values: every digit of a number, null for missing and non-finite values."""
    known = table.notna() & ~table.isin([np.inf, -np.inf])
    return table.astype(object).where(known, None).to_dict("records")


def _measured_columns(rows: pd.DataFrame) -> dict[str, list[str]]:
    """Return the columns of measured costs that any of ``rows`` has; ~ marks a predicted latency, * a disturbed one."""
    columns = {}
    if "latency_ms" in rows and rows["latency_ms"].notna().any():
        disturbed = rows["latency_disturbed"] if "latency_disturbed" in rows else pd.Series(None, index=rows.index)
        marks = ["~" if pd.isna(value) else "*" if value else "" for value in disturbed]
        texts = [
            "-" if pd.isna(value) else f"{value:#.3g}" + mark
            for value, mark in zip(rows["latency_ms"], marks, strict=True)
        ]
        columns["ms"] = texts
    if "size_mb" in rows and rows["size_mb"].notna().any():
        columns["MB"] = ["-" if pd.isna(value) else f"{value:#.3g}" for value in rows["size_mb"]]
    return columns


def _seed_columns(rows: pd.DataFrame, everyone: pd.DataFrame) -> dict[str, list[str]]:
    interval = zip(rows["mean"], rows["half_width"], strict=True)
    return {
        "seeds": [f"{seeds}" for seeds in rows["seeds"]],
        "mean val (95 %)": ["-" if math.isnan(half) else f"{mean:.2f} ± {half:.2f}" for mean, half in interval],
        "on front": [f"{100 * value:.0f} %" for value in front_probability(rows, everyone)],
    }


def _load(name: str, runs: Sequence[Path | str]) -> pd.DataFrame:
    """Load table ``name`` of the runs; the first column ``run``, with ``trial``, identifies a trial."""
    if not runs:
        raise ValueError("at least one run is needed, but got none")
    by_label = run_labels(runs)
    tables = [read_table(run, name) for run in by_label.values()]
    for label, table in zip(by_label, tables, strict=True):
        table.insert(0, "run", label)
    return pd.concat(tables, ignore_index=True)


def run_labels(runs: Sequence[Path | str]) -> dict[str, Path | str]:
    """Label each run with the end of its path: as many names as tell the runs apart. One run given twice is one."""
    given = {Path(run).resolve(): run for run in reversed(runs)}
    folders = list(dict.fromkeys(Path(run).resolve() for run in runs))
    for names in itertools.count(1):
        labels = ["/".join(folder.parts[-names:]) for folder in folders]
        if len(set(labels)) == len(labels):
            return {label: given[folder] for label, folder in zip(labels, folders, strict=True)}
    raise AssertionError("different folders have different paths")


def _decimals(smallest: float) -> int:
    """Return the decimals that show three significant digits of a column's smallest value, and so of all others."""
    return max(0, 2 - math.floor(math.log10(smallest))) if smallest > 0 else 3


def _number(value: float, decimals: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{decimals}f}"
