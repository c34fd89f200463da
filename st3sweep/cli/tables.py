"""Commands that read, compare and plot the results of runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from st3sweep.cli.common import AsJson, RunFolder, RunFolders
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
    from st3sweep.commands.results import print_table

    print_table(folder, table, format_.value)


@app.command()
def pareto(
    folders: RunFolders,
    x: Annotated[
        str | None,
        typer.Option(
            "--x",
            metavar="COST",
            help="gflops, latency or size. Default: the one searched, else gflops.",
        ),
    ] = None,
    as_json: AsJson = False,
    plot: Annotated[Path | None, typer.Option(help="Plot the front to this file.")] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="POINTS",
            help="Compare with these points: published, the folder of a run, or a CSV file with more published points.",
        ),
    ] = None,
) -> None:
    """Print the Pareto front of accuracy versus cost, over one or several runs."""
    from st3sweep.commands.results import print_pareto

    print_pareto(folders, against=against, x=x, as_json=as_json, plot=plot)


@app.command()
def pick(
    folder: RunFolder,
    max_gflops: Annotated[
        float | None, typer.Option(help="Highest cost of one image, in 1e9 multiply-accumulates.")
    ] = None,
    max_latency: Annotated[
        float | None, typer.Option(help="Longest time of one image on this machine, in ms (column latency_ms).")
    ] = None,
    min_accuracy: Annotated[float | None, typer.Option(help="Lowest validation accuracy, in percent.")] = None,
    as_json: AsJson = False,
) -> None:
    """Pick the most accurate trial of the front within a cost limit, or the cheapest with a given accuracy."""
    from st3sweep.commands.results import print_pick

    print_pick(folder, max_gflops, min_accuracy, max_latency, as_json=as_json)


@app.command()
def report(
    folders: RunFolders,
    out: Annotated[
        Path | None, typer.Option(help="The file to write. Default: report.html in the run's folder.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Serve it on this machine instead, updated as trials end, until Ctrl-C.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of --watch. Default: a free one.")] = 0,
) -> None:
    """Write an interactive report of one or several runs: one HTML file that needs no network."""
    from st3sweep.commands.report import watch_report, write_report

    if watch and out is not None:
        raise UserError(f"--out {out}: has no effect with --watch, which writes no file")
    if watch:
        watch_report(folders, port)
    else:
        print(write_report(folders, out))


class FigureFormat(StrEnum):
    png = "png"
    pdf = "pdf"
    svg = "svg"


@app.command()
def figures(
    folder: RunFolder,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to. Default: figures in the folder of the run.")
    ] = None,
    format_: Annotated[FigureFormat, typer.Option("--format", help="Format of the files.")] = FigureFormat.png,
    width: Annotated[float, typer.Option(help="Width in inches: a page has 7, a column 3.3.")] = 7.0,
) -> None:
    """Draw the front, selection, importance, trainings, layers and timeline of a run, a file each."""
    from st3sweep.commands.figures import write_figures

    for path in write_figures(folder, out or folder / "figures", format_.value, width):
        print(path)


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
    from st3sweep.commands.replay import print_replay

    print_replay(
        folder,
        [name.value for name in rule or []],
        reduction_factor,
        slots=slots,
        orders=orders,
        overshoot=overshoot,
        unit=cost.value,
        seed=seed,
        plot=plot,
        as_json=as_json,
    )
