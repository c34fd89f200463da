"""Commands that start, resume, stop and inspect sweeps."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from st3sweep.cli.common import AllowChanged, AsJson, Overrides, Plugins, RunFolder, SpaceFile, overrides
from st3sweep.reporting.console import say
from st3sweep.util.errors import UserError

app = typer.Typer()

Address = Annotated[str | None, typer.Option(help="Address of a Ray cluster, e.g. auto. Default: Ray on this machine.")]
Events = Annotated[bool, typer.Option("--json", help="Print each event as one line of JSON.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show Ray's output too.")]
Track = Annotated[
    list[str] | None, typer.Option(help="Also log every trial to tensorboard, mlflow or wandb; repeatable.")
]


@app.command()
def run(
    space_file: SpaceFile,
    set_: Overrides = None,
    name: Annotated[str | None, typer.Option(help="Name of the run. Default: the search space's.")] = None,
    storage: Annotated[
        Path,
        typer.Option(
            help="Folder of runs, on a cluster one that every machine shares; or an address: s3://BUCKET/runs."
        ),
    ] = Path("runs"),
    address: Address = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    track: Track = None,
    plugin: Plugins = None,
    as_json: Events = False,
    verbose: Verbose = False,
) -> None:
    """Run a sweep and plot its Pareto front."""
    from st3sweep.commands.run import run as run_sweep

    if dry_run and as_json:
        raise UserError("--json: has no effect with --dry-run, which prints text")
    if dry_run:
        plan(space_file, set_, plugin)
        return
    _, code = run_sweep(
        space_file,
        overrides(set_),
        name=name,
        storage=storage,
        address=address,
        track=track or [],
        plugins=plugin or [],
        as_json=as_json,
        verbose=verbose,
    )
    raise typer.Exit(code)


@app.command()
def plan(space_file: SpaceFile, set_: Overrides = None, plugin: Plugins = None) -> None:
    """Print a sweep's plan: data, model, searched fields, number of trials, slots, one trial in full."""
    from st3sweep.commands.reading import read_space

    space = read_space(space_file, overrides(set_), plugin or [])
    from st3sweep.commands.plan import print_plan  # torch

    print_plan(space)


@app.command()
def resume(
    folder: RunFolder,
    set_: Overrides = None,
    trials: Annotated[
        str | None, typer.Option(metavar="[+]N", help="Extend the search to N trials, or by +N more.")
    ] = None,
    extend: Annotated[
        bool, typer.Option("--extend", help="Allow changes to budget, replicates, measure and resources.")
    ] = False,
    promote: Annotated[
        list[int] | None, typer.Option(help="Number of an early-stopped trial to train to the end; repeatable.")
    ] = None,
    address: Address = None,
    track: Track = None,
    plugin: Plugins = None,
    allow_changed_plugins: AllowChanged = False,
    as_json: Events = False,
    verbose: Verbose = False,
) -> None:
    """Resume a run: keep finished trials, continue unfinished ones from their checkpoints."""
    from st3sweep.commands.resume import resume as resume_run

    raise typer.Exit(
        resume_run(
            folder,
            overrides(set_),
            trials=trials,
            extend=extend,
            promote=promote or [],
            address=address,
            track=track or [],
            plugins=plugin or [],
            allow_changed_plugins=allow_changed_plugins,
            as_json=as_json,
            verbose=verbose,
        )
    )


@app.command()
def status(
    folder: RunFolder,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every two seconds until the run ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a run's progress: running and ended trials, the front, the budget spent."""
    from st3sweep.commands.status import print_status, watch_status

    if watch and watch_status(folder, as_json=as_json):
        return
    print_status(folder, as_json=as_json)


@app.command()
def stop(
    folder: RunFolder,
    drain: Annotated[bool, typer.Option("--drain", help="Train running trials to the end first.")] = False,
) -> None:
    """Ask the program that runs a sweep to stop after the current epochs."""
    from st3sweep.runs.bring import ask_to_stop
    from st3sweep.runs.folder import existing_run

    request = "drain" if drain else "now"
    holder = ask_to_stop(existing_run(folder), request)
    when = "when the running trials have ended" if drain else "after the current epochs"
    say(f"asked {holder['host']}:{holder['pid']} to end {when}")


class Keep(StrEnum):
    front = "front"
    finished = "finished"


@app.command()
def clean(
    folder: RunFolder,
    keep: Annotated[Keep, typer.Option(help="Whose checkpoints stay, as in resources.checkpoints.")] = Keep.finished,
    yes: Annotated[bool, typer.Option("--yes", help="Remove the files. Default: only say which.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say which checkpoints of a run are no longer needed and why; with --yes, remove them."""
    from st3sweep.commands.clean import print_clean

    print_clean(folder, keep.value, yes=yes, as_json=as_json)


@app.command()
def validate(space_file: SpaceFile, set_: Overrides = None, plugin: Plugins = None) -> None:
    """Check a search space and its data without starting a sweep."""
    from st3sweep.commands.reading import read_space

    space = read_space(space_file, overrides(set_), plugin or [])
    from st3sweep.commands.plan import check_data  # torch, which a file that is no space need not wait for

    check_data(space)
    say(f"{space_file}: valid")
