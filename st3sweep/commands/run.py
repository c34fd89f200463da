"""Run a sweep from a search space to its Pareto front."""

from __future__ import annotations

import contextlib
import importlib
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from st3sweep.commands.reading import Source, read_space
from st3sweep.commands.report import REPORT, write_report_of_run
from st3sweep.commands.stored import KeepOnly, kept_in_store, remove_from_store
from st3sweep.reporting.console import out, short, warn
from st3sweep.reporting.json_events import JsonEvents
from st3sweep.reporting.live_table import LiveTable
from st3sweep.runs.folder import new_run, trial_folder
from st3sweep.runs.ledger import Ledger
from st3sweep.space.space import Space
from st3sweep.util.errors import ResultsError
from st3sweep.util.text import counted

if TYPE_CHECKING:
    import pandas as pd

PICTURE = "front.png"
_MORE = Path("search_spaces/cifar10_resnet20.yaml")  # in a checkout
EXIT_CODES = {"complete": 0, "budget": 3, "interrupted": 130}
SOME_FAILED = 4


def run(
    source: Source,
    overrides: Mapping[str, str],
    *,
    name: str | None,
    storage: Path,
    address: str | None,
    track: Sequence[str],
    plugins: Sequence[str],
    as_json: bool,
    verbose: bool,
) -> tuple[Path, int]:
    """Run the sweep of a space in a new folder in ``storage``; return that folder and the program's exit code.

    Raises SpecError and UserError before anything is started.
    """
    space = read_space(source, overrides, plugins)
    check_before_start(space, address, track)
    folder = new_run(space.config.name, space.document.data, space.document.text, storage, name)
    with _removed_if_unused(folder), kept_in_store(folder, checkpoints=address is None) as keep_only:
        return folder, run_to_the_end(
            space, folder, address, keep_only, track=track, plugins=plugins, as_json=as_json, verbose=verbose
        )


@contextlib.contextmanager
def _removed_if_unused(folder: Path) -> Iterator[None]:
    """Remove the folder of a new run if an error ends it before it has a trial."""
    try:
        yield
    except BaseException:
        if not Ledger(folder, read_only=True).trials:
            remove_from_store(folder)
            shutil.rmtree(folder, ignore_errors=True)
        raise


def check_before_start(space: Space, address: str | None, track: Sequence[str]) -> None:
    """Raise SpecError for data that cannot be read, UserError for a logger of ``--track`` that cannot be used."""
    from st3sweep.commands.measure import prepare

    known: tuple[int, ...] = ()
    if address is None:  # a cluster's machines may have data that this one lacks
        from st3sweep.commands.plan import check_data  # torch

        info = check_data(space)
        known = (info.num_classes, info.channels)
        if info.note:
            warn(f"data: {info.note}")
    prepare(space, *known)
    if track:
        from st3sweep.execution.loggers import check

        check(track)


def run_to_the_end(
    space: Space,
    folder: Path,
    address: str | None,
    keep_only: KeepOnly | None = None,
    *,
    promote: Sequence[int] = (),
    track: Sequence[str] = (),
    plugins: Sequence[str] = (),
    as_json: bool,
    verbose: bool,
) -> int:
    """Run what remains of the run in ``folder`` and print its front; return the program's exit code.

    ``keep_only`` is what ``kept_in_store`` yields.
    """
    from st3sweep.analysis import tables
    from st3sweep.execution import runner  # Ray takes seconds to import

    total = space.expected_trials()
    report = JsonEvents(total) if as_json else LiveTable(total, out, space.config.goals())
    report.say(f"run: {short(folder)}")
    running = runner.sweep(
        space, folder, address, report, keep_only,
        verbose=verbose, promote=promote, track=track, plugins=plugins,
    )  # fmt: skip
    trials = None
    # With --json only events go to stdout; other output, such as Ray's with --verbose, goes to stderr.
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext(), running as outcome:
        try:
            trials = tables.load_trials(folder)
        except ResultsError as error:
            if outcome.end == "complete":
                raise
            warn(str(error))  # the table is missing too
        if trials is not None and not as_json:
            print_front(folder, trials)
        # Imported while Ray shuts down: both take seconds. Not a daemon: Python aborts if it exits during the import.
        threading.Thread(target=importlib.import_module, args=("st3sweep.analysis.report.data",)).start()
    if trials is not None:
        draw_front(folder, trials)
        write_report_of_run(folder)
    failed = _failed(trials) if trials is not None else 0
    code = SOME_FAILED if outcome.end == "complete" and failed else EXIT_CODES[outcome.end]
    if isinstance(report, JsonEvents):
        report.write("end", outcome=outcome.end, why=outcome.why, exit_code=code)
    elif outcome.end != "complete":
        hint = f" --set budget.{outcome.spent}=... --extend" if outcome.spent else ""
        warn(f"{outcome.why}; continue with: st3sweep resume {short(folder)}{hint}")
    return code


def print_front(folder: Path, trials: pd.DataFrame) -> None:
    """Print the front, the run's files and the next steps."""
    from st3sweep.analysis import tables  # pandas

    print(f"\nPareto front\n{tables.front_table(trials, tables.objectives_over(trials, folder))}\n")
    files = {
        "trials": folder / "trials.parquet", "plot": folder / PICTURE, "report": folder / REPORT,
        "study": folder / "study.journal",
    }  # fmt: skip
    for label, path in files.items():
        print(f"{label:<7} {short(path)}")
    if failed := _failed(trials):
        of = counted(len(trials), "trial")
        print(f"\n{failed} of {of} failed; see the column error of: st3sweep results {short(folder)}")
    if trials["val_top1"].notna().any():
        best = int(trials.sort_values("val_top1", na_position="first")["trial"].iloc[-1])
        _print_next(folder, trial_folder(folder, best) / "config.yaml")
    sys.stdout.flush()


def draw_front(folder: Path, trials: pd.DataFrame) -> None:
    """Draw the front into the run's folder; where that fails, warn: a plot ends no command."""
    from st3sweep.analysis import plots
    from st3sweep.analysis.tables import objectives_over

    picture = folder / PICTURE
    try:
        plots.save(plots.plot_run(trials, objectives_over(trials, folder)), picture)
    except OSError as error:  # e.g. a full disk
        warn(f"{short(picture)}: not drawn ({error.strerror})")
    except Exception as error:
        warn(f"{short(picture)}: not drawn ({type(error).__name__}: {error})")


def _failed(trials: pd.DataFrame) -> int:
    return int((trials["status"] == "failed").sum())


def _print_next(folder: Path, best: Path) -> None:
    lines = [f"st3sweep results {short(folder)}"]
    lines += [f"st3sweep train {short(best)} --set seed=1"] if best.exists() else []  # a reused result has none
    lines += [f"st3sweep run {_MORE} --dry-run"] if _MORE.exists() else []
    print("\nnext    " + "\n        ".join(lines))
