"""Print what runs have found: their tables, their front, the trial to take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from st3sweep.analysis import tables
from st3sweep.analysis.dominance import dominance, sentences
from st3sweep.analysis.fronts import Objectives, cost_of, front, pick
from st3sweep.commands.against import objectives_against, points_against
from st3sweep.commands.pictures import check_picture, save_picture
from st3sweep.reporting.console import short
from st3sweep.runs.table_rows import newest
from st3sweep.runs.tables import SCHEMAS, read_table
from st3sweep.util.errors import ResultsError, UserError

if TYPE_CHECKING:
    import pandas as pd

_HIDDEN = ["params", "spec", "digest"]  # columns that are too wide for a terminal


def print_table(folder: Path, table: str, format_: str) -> None:
    """Print ``table`` of a run as table, csv or json; as parquet, the path of its file or folder."""
    if table not in SCHEMAS:
        raise UserError(f"--table {table}: allowed: {', '.join(SCHEMAS)}")
    rows = read_table(folder, table)
    if format_ == "parquet":
        print(newest(folder, table))
    elif format_ == "csv":
        print(rows.to_csv(index=False), end="")
    elif format_ == "json":
        print(json.dumps(tables.json_rows(rows), ensure_ascii=False))
    else:
        shown = rows.drop(columns=[column for column in _HIDDEN if column in rows])
        print(shown.to_string(index=False, na_rep="-", float_format="{:.4g}".format))


def objectives_of_limits(
    trials: pd.DataFrame, folder: Path, max_gflops: float | None, max_latency: float | None
) -> Objectives:
    """Return the objectives of the front from which these limits pick. Raises ResultsError without any latency."""
    x = "latency" if max_latency is not None else "gflops" if max_gflops is not None else None
    try:
        return tables.objectives_over(trials, folder, x=x)
    except ResultsError as error:
        raise ResultsError(str(error).replace("--x latency", f"--max-latency {max_latency:g}")) from None


def print_pareto(
    folders: Sequence[Path], *, against: str | None = None, x: str | None = None, as_json: bool, plot: Path | None
) -> None:
    """Print the front of one or several runs over the cost ``x``, compare it with what ``against`` names, and plot it.

    ``x`` is as in ``tables.objectives_over``.
    """
    check_picture(plot)
    trials = tables.load_trials(*folders)
    objectives = tables.objectives_over(trials, *folders, x=x)
    compared = None
    if against is not None:
        if cost_of(objectives) != "gflops":
            raise UserError("--against: compares costs in GFLOPs only; add --x gflops")
        others = points_against(trials, against)
        compared = dominance(trials, others, objectives=objectives_against(objectives, others))
    if as_json:
        rows: Any = tables.json_rows(front(trials, objectives))
        shown = rows if compared is None else {"front": rows, "against": tables.json_rows(compared)}
        print(json.dumps(shown, ensure_ascii=False))
    else:
        print(tables.front_table(trials, objectives))
        if compared is not None:
            measure = "test accuracy" if "own_top1" in compared else "test values"
            print("", f"{measure} against {against}:", *sentences(compared), sep="\n")
    if plot is not None:
        from st3sweep.analysis import plots

        save_picture(plots.plot_run(trials, objectives), plot)


def print_pick(
    folder: Path,
    max_gflops: float | None,
    min_accuracy: float | None,
    max_latency: float | None = None,
    *,
    as_json: bool,
) -> None:
    """Print the trial of the front that meets the limits. Raises UserError where none does."""
    trials = tables.load_trials(folder)
    objectives = objectives_of_limits(trials, folder, max_gflops, max_latency)
    chosen = pick(trials, max_gflops, min_accuracy, objectives, max_latency)
    if chosen.empty:
        shown = tables.front_table(front(trials, objectives), objectives)
        raise UserError(f"{folder}: no trial of the front meets the limits; the front is\n{shown}")
    if as_json:
        print(json.dumps(tables.json_rows(chosen)[0], ensure_ascii=False))
    else:
        print(tables.front_table(chosen, objectives))
        print(f"\nnext    st3sweep export {short(folder)} {chosen['trial'].iloc[0]}")
