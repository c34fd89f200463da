"""Commands that start, steer and watch sweeps."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from st3sweep.cli.common import AsJson, Overrides, RunFolder, SpaceFile, err, out, overrides, short, show
from st3sweep.errors import SpecError, UserError
from st3sweep.text import json_line

app = typer.Typer()

Address = Annotated[str | None, typer.Option(help="A Ray cluster to run on, e.g. auto. Default: Ray on this machine.")]
Events = Annotated[bool, typer.Option("--json", help="One JSON object a line for every event, for programs.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show what Ray says as well.")]
Track = Annotated[
    list[str] | None, typer.Option(help="Log every trial to tensorboard, mlflow or wandb as well; repeatable.")
]


@app.command()
def run(
    space_file: SpaceFile,
    set_: Overrides = None,
    name: Annotated[str | None, typer.Option(help="Name of the run. Default: the space's.")] = None,
    storage: Annotated[Path, typer.Option(help="Folder of runs; on a cluster, a shared one.")] = Path("runs"),
    address: Address = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    track: Track = None,
    as_json: Events = False,
    verbose: Verbose = False,
) -> None:
    """Run a sweep and draw its Pareto front."""
    from st3sweep.loading import load_space
    from st3sweep.plan import check_data
    from st3sweep.run_folder import new_run

    if dry_run and as_json:
        raise UserError("--json: has no effect with --dry-run, whose plan is for people")
    space = load_space(space_file, overrides(set_))
    if dry_run:
        _print_plan(space)
        return
    if address is None:  # a cluster's own machines may see data that this one does not
        check_data(space)
    _check_loggers(track)
    folder = new_run(space, space_file, storage, name)
    _sweep(space, folder, address, track or [], as_json=as_json, verbose=verbose)


@app.command()
def plan(space_file: SpaceFile, set_: Overrides = None) -> None:
    """Print what a sweep would do: data, network, what is searched, trials, slots, one trial in full."""
    from st3sweep.loading import load_space

    _print_plan(load_space(space_file, overrides(set_)))


@app.command()
def resume(
    folder: RunFolder,
    set_: Overrides = None,
    extend: Annotated[bool, typer.Option("--extend", help="Allow more budget, replicates or resources.")] = False,
    promote: Annotated[
        list[int] | None, typer.Option(help="A trial that was stopped early and is to go on; repeatable.")
    ] = None,
    address: Address = None,
    track: Track = None,
    as_json: Events = False,
    verbose: Verbose = False,
) -> None:
    """Go on with a run: finished trials stay, unfinished ones continue from their checkpoints."""
    from st3sweep.changes import check_unchanged
    from st3sweep.loading import load_space
    from st3sweep.plan import check_data
    from st3sweep.run_folder import RESOLVED, existing_run
    from st3sweep.sweep.ledger import Ledger

    folder = existing_run(folder)
    space = load_space(folder / RESOLVED, overrides(set_))
    begun_with = Ledger(folder, read_only=True).space
    if begun_with is not None:
        check_unchanged(begun_with, space.document.data, extend=extend)
    if address is None:
        check_data(space)
    _check_loggers(track)
    _sweep(space, folder, address, track or [], promote or [], as_json=as_json, verbose=verbose)


@app.command()
def status(
    folder: RunFolder,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every two seconds until the run ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say how far a run is: what runs, what has ended, the front, what is spent."""
    from st3sweep.sweep.status import look

    seen = look(folder)
    if watch and seen.held_by:
        with contextlib.suppress(KeyboardInterrupt):
            _watch(folder, as_json=as_json)
        if out.is_terminal or as_json:
            return
        seen = look(folder)
    if as_json:
        print(json_line(seen.as_dict()))
        return
    for line in seen.lines(short(seen.folder)):
        out.print(line, soft_wrap=True)
    show(seen.table())


def _watch(folder: Path, *, as_json: bool) -> None:
    """Show the run every two seconds while somebody runs it, and its end; piped and not as JSON, wait for that."""
    import time

    from rich.console import Group
    from rich.live import Live

    from st3sweep.sweep.status import look

    with Live(console=out, auto_refresh=False) if out.is_terminal and not as_json else contextlib.nullcontext() as live:
        while True:
            seen = look(folder)
            if as_json:
                print(json_line(seen.as_dict()), flush=True)
            elif live is not None:
                live.update(Group(*seen.lines(short(seen.folder)), seen.table()), refresh=True)
            if not seen.held_by:
                return
            time.sleep(2)


@app.command()
def stop(
    folder: RunFolder,
    drain: Annotated[bool, typer.Option("--drain", help="Let trials that run go on to their end.")] = False,
) -> None:
    """Ask the program that runs a sweep to end it, after the epochs in progress."""
    from st3sweep.run_folder import ask_to_stop, existing_run

    holder = ask_to_stop(existing_run(folder), "drain" if drain else "now")
    when = "when the trials that run have ended" if drain else "after the epochs in progress"
    out.print(f"asked {holder['host']}:{holder['pid']} to end {when}", soft_wrap=True)


@app.command()
def validate(space_file: SpaceFile, set_: Overrides = None) -> None:
    """Check a search space and its data without starting anything."""
    from st3sweep.loading import load_space
    from st3sweep.plan import check_data

    check_data(load_space(space_file, overrides(set_)))
    out.print(f"{space_file}: valid", soft_wrap=True)


def _check_loggers(names: list[str] | None) -> None:
    if names:
        from st3sweep.sweep.tracking import check

        check(names)


def _print_plan(space: Any) -> None:
    from st3sweep.plan import check_data, plan_text

    info, absent = None, None
    try:
        info = check_data(space)
    except SpecError as error:
        absent = error
    print(plan_text(space, info))
    for problem in absent.problems if absent else []:
        print(f"\nnot ready to run: {problem}", file=err.file)


def _sweep(
    space: Any,
    folder: Path,
    address: str | None,
    track: list[str],
    promote: list[int] | None = None,
    *,
    as_json: bool,
    verbose: bool,
) -> None:
    from st3sweep.errors import ResultsError
    from st3sweep.plan import expected_trials
    from st3sweep.sweep.events import JsonEvents
    from st3sweep.sweep.progress import Progress
    from st3sweep.sweep.runner import sweep

    total = expected_trials(space)
    progress = JsonEvents(total) if as_json else Progress(total, out)
    progress.say(f"run: {short(folder)}")
    # The events have their stdout; what else is printed there, by Ray with --verbose for one, is not for programs.
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        outcome = sweep(space, folder, address, progress, promote=promote or [], track=track, verbose=verbose)
    try:
        failed = _report(folder, quiet=as_json)
    except ResultsError as error:
        if outcome.end == "complete":
            raise
        failed = 0  # no table could be written either
        err.print(str(error), soft_wrap=True)
    code = {"complete": 4 if failed else 0, "budget": 3, "interrupted": 130}[outcome.end]
    if as_json:
        progress.write("end", outcome=outcome.end, why=outcome.why, exit_code=code)  # type: ignore[union-attr]
    elif outcome.end != "complete":
        hint = f" --set budget.{outcome.spent}=... --extend" if outcome.spent else ""
        err.print(f"{outcome.why}; go on with: st3sweep resume {short(folder)}{hint}", soft_wrap=True)
    raise typer.Exit(code)


def _report(folder: Path, *, quiet: bool) -> int:
    """The front, the files, and what to do next; returns how many trials failed."""
    from analysis import plots, tables
    from st3sweep.run_folder import trial_folder

    trials = tables.load_trials(folder)
    picture = folder / "front.png"
    try:
        plots.save(plots.plot_run(trials), picture)
    except OSError as error:  # a full disk, for one: the numbers are still worth a look
        err.print(f"{short(picture)}: not drawn ({error.strerror})", soft_wrap=True)
    failed = int((trials["status"] == "failed").sum())
    if quiet:
        return failed
    print(f"\nPareto front\n{tables.front_table(trials)}\n")
    for label, path in (("trials", folder / "trials.parquet"), ("plot", picture), ("study", folder / "study.journal")):
        print(f"{label:<7} {short(path)}")
    if failed:
        print(f"\n{failed} of {len(trials)} trials failed; see the column error of: st3sweep results {short(folder)}")
    if trials["val_top1"].notna().any():
        best = int(trials.sort_values("val_top1", na_position="first")["trial"].iloc[-1])
        _print_next(folder, trial_folder(folder, best) / "config.yaml")
    return failed


def _print_next(folder: Path, best: Path) -> None:
    lines = [f"st3sweep results {short(folder)}"]
    lines += [f"st3sweep train {short(best)} --set seed=1"] if best.exists() else []  # a result taken over has none
    lines.append("st3sweep run search_spaces/cifar10_resnet20.yaml --dry-run")
    print("\nnext    " + "\n        ".join(lines))
