"""Commands that read, compare and plot the results of runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from st3sweep.cli.common import AsJson, RunFolder, json_rows
from st3sweep.reporting.console import err, short
from st3sweep.util.errors import UserError

app = typer.Typer()


class TableFormat(StrEnum):
    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"


@app.command()
def results(
    folder: RunFolder,
    format_: Annotated[TableFormat, typer.Option("--format", help="Output format.")] = TableFormat.table,
    table: Annotated[str, typer.Option(help="Table to print: trials, epochs or layers.")] = "trials",
) -> None:
    """Print a table of a run; with --format parquet, the path of its file."""
    from st3sweep.runs.tables import SCHEMAS, read_table, table_path

    if table not in SCHEMAS:
        raise UserError(f"--table {table}: allowed: {', '.join(SCHEMAS)}")
    rows = read_table(folder, table)
    if format_ is TableFormat.parquet:
        print(table_path(folder, table))
    elif format_ is TableFormat.csv:
        print(rows.to_csv(index=False), end="")
    elif format_ is TableFormat.json:
        print(json.dumps(json_rows(rows), ensure_ascii=False))
    else:
        hidden = ["params", "spec", "digest"]
        print(
            rows.drop(columns=[c for c in hidden if c in rows]).to_string(
                index=False, na_rep="-", float_format="{:.4g}".format
            )
        )


@app.command()
def pareto(
    folders: Annotated[list[Path], typer.Argument(help="Folders of one or several runs.")],
    as_json: AsJson = False,
    plot: Annotated[Path | None, typer.Option(help="Plot the front to this file.")] = None,
) -> None:
    """Print the Pareto front of accuracy versus cost, over one or several runs."""
    from st3sweep.analysis import tables
    from st3sweep.analysis.fronts import front

    _check_picture(plot)
    trials = tables.load_trials(*folders)
    if as_json:
        print(json.dumps(json_rows(front(trials)), ensure_ascii=False))
    else:
        print(tables.front_table(trials))
    if plot is not None:
        from st3sweep.analysis import plots

        _save(plots.plot_run(trials), plot)


@app.command()
def pick(
    folder: RunFolder,
    max_gflops: Annotated[
        float | None, typer.Option(help="Highest cost of one image, in 1e9 multiply-accumulates.")
    ] = None,
    min_accuracy: Annotated[float | None, typer.Option(help="Lowest validation accuracy, in percent.")] = None,
    as_json: AsJson = False,
) -> None:
    """Pick the most accurate trial of the front within a cost limit, or the cheapest with a given accuracy."""
    from st3sweep.analysis import tables
    from st3sweep.analysis.fronts import front
    from st3sweep.analysis.fronts import pick as pick_trial

    trials = tables.load_trials(folder)
    chosen = pick_trial(trials, max_gflops, min_accuracy)
    if chosen.empty:
        raise UserError(
            f"{folder}: no trial of the front meets the limits; the front is\n{tables.front_table(front(trials))}"
        )
    if as_json:
        print(json.dumps(json_rows(chosen)[0], ensure_ascii=False))
    else:
        print(tables.front_table(chosen))
        print(f"\nnext    st3sweep export {short(folder)} {chosen['trial'].iloc[0]}")


class RuleName(StrEnum):
    none = "none"
    ramp_pareto = "ramp_pareto"
    residual = "residual"
    asha = "asha"


class CostUnit(StrEnum):
    seconds = "seconds"
    epochs = "epochs"


@app.command()
def replay(
    folder: RunFolder,
    rule: Annotated[
        list[RuleName] | None,
        typer.Option("--rule", "--scheduler", help="Early-stopping rule to replay; repeatable. Default: all but none."),
    ] = None,
    reduction_factor: Annotated[float, typer.Option(help="Reduction factor of each rule.")] = 2.0,
    orders: Annotated[int, typer.Option(min=2, help="Number of random trial orders.")] = 200,
    slots: Annotated[int, typer.Option(min=1, help="Number of trials that train at a time.")] = 4,
    overshoot: Annotated[
        int, typer.Option(min=0, help="Epochs that a trial trains after the decision to stop it.")
    ] = 1,
    cost: Annotated[CostUnit, typer.Option(help="Cost of an epoch: its recorded seconds, or 1.")] = CostUnit.seconds,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random orders.")] = 0,
    plot: Annotated[Path | None, typer.Option(help="Plot hypervolume over compute to this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Estimate what early stopping would have saved and lost in a completed run without early stopping."""
    from st3sweep.early_stopping.replay import replay as replay_on
    from st3sweep.early_stopping.replay import replay_table
    from st3sweep.runs.tables import read_table
    from st3sweep.space.early_stopping import EarlyStoppingConfig

    if reduction_factor <= 1:
        raise UserError(f"--reduction-factor {reduction_factor:g}: must be above 1")
    _check_picture(plot)
    names = rule or [RuleName.ramp_pareto, RuleName.residual, RuleName.asha]
    stopping = {"reduction_factor": reduction_factor}
    specs = [EarlyStoppingConfig(name=name.value, **({} if name == "none" else stopping)) for name in names]
    trials, epochs = read_table(folder, "trials"), read_table(folder, "epochs")
    options: dict[str, Any] = {"slots": slots, "seed": seed, "orders": orders, "unit": cost.value}
    found = [replay_on(trials, epochs, spec, **options, overshoot=overshoot) for spec in specs]
    plain = [asdict(one) | {"early_stopping": one.early_stopping.model_dump()} for one in found]
    print(json.dumps(plain) if as_json else replay_table(found))
    if plot is not None:
        from st3sweep.analysis.replay_plots import plot_replays

        _save(plot_replays({folder.resolve().name: plain}), plot)


def _check_picture(path: Path | None) -> None:
    """Raise UserError, before any work, unless matplotlib can write ``path``; it renames a file without a suffix."""
    if path is None:
        return
    from matplotlib.backend_bases import FigureCanvasBase

    allowed = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix.lower().removeprefix(".") not in allowed:
        raise UserError(f"--plot {path}: must end in one of .{', .'.join(allowed)}")


def _save(figure: Any, path: Path) -> None:
    from st3sweep.analysis import plots

    try:
        plots.save(figure, path)
    except OSError as error:
        raise UserError(f"--plot {path}: cannot be written ({error.strerror})") from None
    err.print(f"plot: {path}", soft_wrap=True)
