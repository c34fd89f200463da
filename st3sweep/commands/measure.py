"""Measure the latency and the file size of finished trials on this machine, and prepare for sweeps that ask for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from st3sweep.commands.stored import kept_in_store
from st3sweep.reporting.console import progress_bar, say, short
from st3sweep.runs.bring import bring_models, local_run
from st3sweep.runs.folder import lock
from st3sweep.runs.ledger import LEDGER, Ledger, Trial
from st3sweep.runs.table_rows import RunTables
from st3sweep.space.measuring import LATENCY
from st3sweep.space.sample_points import sample_points
from st3sweep.space.space import Space
from st3sweep.sweep.measuring import Measuring, unmeasured
from st3sweep.training.components import register_components
from st3sweep.trial.plugins import check_foreign_components
from st3sweep.util.errors import SpecError, UserError
from st3sweep.util.text import aligned

COLUMNS = ("trial", "val_top1", "gflops", "latency_ms", "latency_predicted_ms", "latency_disturbed", "size_mb")
MOST_MODELS = 8  # of a space that are tried in the engine before it starts


def measure(
    folder: Path,
    trials: Sequence[int] = (),
    *,
    again: bool = False,
    plugins: Sequence[str] = (),
    allow_changed: bool = False,
) -> list[dict[str, Any]]:
    """Measure finished trials of a run, one after another, and write its tables; return a row of COLUMNS for each.

    By default all that were never measured; ``trials`` are some, ``again`` also those that were. Each is recorded at
    once. Raises UserError while a program runs the sweep, and for a trial that has not finished.
    """
    folder = local_run(folder)
    if not (folder / LEDGER).is_file():
        raise UserError(f"{folder}: not the folder of a run (it has no {LEDGER})")
    register_components(plugins)
    bring_models(folder, _chosen(folder, Ledger(folder, read_only=True), trials, again=again))
    with kept_in_store(folder, checkpoints=True), lock(folder):
        ledger = Ledger(folder)
        try:
            check_foreign_components(folder, ledger.foreign, plugins=ledger.plugins, allow_changed=allow_changed)
            chosen = _chosen(folder, ledger, trials, again=again)
            measuring, found = Measuring(folder, say, latency=True, size=True), []
            try:
                with progress_bar("measuring") as advance:
                    for trial in measuring.measure_all(ledger, chosen):
                        found.append(_row(trial))
                        advance(len(found), len(chosen))
            finally:
                RunTables(folder).write(ledger, now=True)
        finally:
            ledger.close()
    return found


def print_measured(
    folder: Path, trials: Sequence[int], *, again: bool, plugins: Sequence[str], allow_changed: bool, as_json: bool
) -> None:
    """Measure as ``measure`` does, and print a line for each trial."""
    rows = measure(folder, trials, again=again, plugins=plugins, allow_changed=allow_changed)
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
    elif not rows:
        say(f"{short(folder)}: every finished trial is measured; --again measures them anew")
    else:
        lines = [[_shown(row[name]) for name in COLUMNS] for row in rows]
        print(aligned([tuple(name.replace("_", " ") for name in COLUMNS), *map(tuple, lines)]))


def prepare(space: Space, num_classes: int = 10, channels: int = 3) -> None:
    """Make this machine ready to measure the latency that ``space`` asks for: calibrate, unless that was done.

    Warns of models that the engine lacks an operation for, and of a missing compiler; raises SpecError for them where
    latency is an objective.
    """
    if not space.config.measures_latency:
        return
    from st3sweep.export.calibration import calibrate, predictor  # torch

    reason = next(_unsupported(space, num_classes, channels), "")
    if not reason and predictor() is None:
        say("calibrating the latency of this machine, about a minute, once a machine")
        try:
            with progress_bar("calibrating") as advance:
                calibrate(advance)
        except UserError as error:
            reason = str(error)
    if not reason:
        return
    if LATENCY in space.config.objective_names():
        where = ("objectives", space.config.objective_names().index(LATENCY), "metric")
        raise SpecError([space.document.problem(where, reason).named(LATENCY)])
    say(f"measure.latency: {reason}; the column stays empty")


def _unsupported(space: Space, num_classes: int, channels: int) -> Any:
    """Yield why the engine cannot run a model of the space, for some of its models."""
    from st3sweep.export.measuring import unsupported

    trials = {trial.model.label: trial for trial in map(space.trial_for, sample_points(space))}
    for label, trial in list(trials.items())[:MOST_MODELS]:
        if lacks := unsupported(trial.model, num_classes, channels, trial.data.image_size):
            yield f"{label} cannot be measured: {lacks}"


def _chosen(folder: Path, ledger: Ledger, trials: Sequence[int], *, again: bool) -> list[int]:
    for number in trials:
        trial = ledger.trials.get(number)
        if trial is None or trial.status != "finished":
            is_ = "there is no such trial" if trial is None else f"it is {trial.status}"
            raise UserError(f"{folder}: trial {number} cannot be measured: {is_}")
    if again:
        finished = [trial.number for trial in ledger.trials.values() if trial.status == "finished"]
        return list(dict.fromkeys(trials or finished))
    left = [trial.number for trial in unmeasured(ledger)]
    return [number for number in left if number in trials] if trials else left


def _row(trial: Trial) -> dict[str, Any]:
    return {"trial": trial.number, **{name: trial.result.get(name) for name in COLUMNS[1:]}}


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return ("yes" if value else "no") if isinstance(value, bool) else f"{value:.4g}"
