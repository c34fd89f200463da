"""Run a sweep from a search space to its Pareto front."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from st3sweep.commands.plan import check_data
from st3sweep.commands.reading import read_space
from st3sweep.reporting.console import out, short, warn
from st3sweep.reporting.json_events import JsonEvents
from st3sweep.reporting.live_table import LiveTable
from st3sweep.runs.folder import new_run, trial_folder
from st3sweep.space.space import Space
from st3sweep.util.errors import ResultsError

EXIT_CODES = {"complete": 0, "budget": 3, "interrupted": 130}
SOME_FAILED = 4


def run(
    space_file: Path,
    overrides: Mapping[str, str],
    *,
    name: str | None,
    storage: Path,
    address: str | None,
    track: Sequence[str],
    plugins: Sequence[str],
    as_json: bool,
    verbose: bool,
) -> int:
    """Start the sweep of ``space_file`` in a new folder in ``storage``; return the program's exit code.

    Raises SpecError and UserError before anything is started.
    """
    space = read_space(space_file, overrides, plugins)
    check_before_start(space, address, track)
    folder = new_run(space.config.name, space.document.data, space_file, storage, name)
    return run_to_the_end(space, folder, address, track=track, plugins=plugins, as_json=as_json, verbose=verbose)


def check_before_start(space: Space, address: str | None, track: Sequence[str]) -> None:
    """Raise SpecError for data that cannot be read, UserError for a logger of ``--track`` that cannot be used."""
    if address is None:  # a cluster's machines may have data that this one lacks
        check_data(space)
    if track:
        from st3sweep.execution.loggers import check

        check(track)


def run_to_the_end(
    space: Space,
    folder: Path,
    address: str | None,
    *,
    promote: Sequence[int] = (),
    track: Sequence[str] = (),
    plugins: Sequence[str] = (),
    as_json: bool,
    verbose: bool,
) -> int:
    """Run what remains of the run in ``folder`` and print its front; return the program's exit code."""
    from st3sweep.execution import runner  # Ray takes seconds to import

    total = space.expected_trials()
    report = JsonEvents(total) if as_json else LiveTable(total, out)
    report.say(f"run: {short(folder)}")
    # With --json only events go to stdout; other output, such as Ray's with --verbose, goes to stderr.
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        outcome = runner.sweep(
            space, folder, address, report, verbose=verbose, promote=promote, track=track, plugins=plugins
        )
    try:
        failed = print_front(folder, quiet=as_json)
    except ResultsError as error:
        if outcome.end == "complete":
            raise
        failed = 0  # the table is missing too
        warn(str(error))
    code = SOME_FAILED if outcome.end == "complete" and failed else EXIT_CODES[outcome.end]
    if isinstance(report, JsonEvents):
        report.write("end", outcome=outcome.end, why=outcome.why, exit_code=code)
    elif outcome.end != "complete":
        hint = f" --set budget.{outcome.spent}=... --extend" if outcome.spent else ""
        warn(f"{outcome.why}; continue with: st3sweep resume {short(folder)}{hint}")
    return code


def print_front(folder: Path, *, quiet: bool) -> int:
    """Plot the front and, unless ``quiet``, print it, the files and the next steps. Returns how many trials failed."""
    from st3sweep.analysis import plots, tables  # pandas and matplotlib

    trials = tables.load_trials(folder)
    picture = folder / "front.png"
    try:
        plots.save(plots.plot_run(trials), picture)
    except OSError as error:  # e.g. a full disk: still print the numbers
        warn(f"{short(picture)}: not drawn ({error.strerror})")
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
    lines += [f"st3sweep train {short(best)} --set seed=1"] if best.exists() else []  # a reused result has none
    lines.append("st3sweep run search_spaces/cifar10_resnet20.yaml --dry-run")
    print("\nnext    " + "\n        ".join(lines))
