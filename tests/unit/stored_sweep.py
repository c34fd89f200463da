"""A sweep in an object store, in which the test acts as the slots and writes checkpoints of a few bytes."""

from __future__ import annotations

import functools
import io
import os
import time
from collections.abc import Callable
from pathlib import Path

from driven_sweep import EPOCHS, SPACE, epoch, result

from st3sweep.commands.stored import kept_in_store, unfinished_trials
from st3sweep.reporting.json_events import JsonEvents
from st3sweep.runs import mirror
from st3sweep.runs.bring import local_run
from st3sweep.runs.folder import RESOLVED, lock, new_run, trial_folder, write_config
from st3sweep.runs.ledger import Trial
from st3sweep.space.loading import load_space, load_stored_space
from st3sweep.sweep.state import Sweep
from st3sweep.training.checkpoint_files import BEST, LAST, previous
from st3sweep.training.components import register_components
from st3sweep.util.storage.atomic import atomic_write

BUDGET = "budget: {trials: 4}\n"


def new(url: str, space_file: Path, more: str = BUDGET) -> Path:
    """Make the folder of a new run at ``url``."""
    space_file.write_text(SPACE + more)
    space = load_space(space_file)
    parent, _, name = url.rpartition("/")
    return new_run("decisions", space.document.data, space.document.text, Path(parent), name)


def run(folder: Path, seconds: float = 0.0, after_epoch: Callable[[Sweep, Trial], None] | None = None) -> Sweep:
    """Run what remains of the run, two trials in turn; an epoch takes ``seconds``."""
    needed = functools.partial(unfinished_trials, folder)
    with kept_in_store(folder, checkpoints=True, needed=needed) as keep_only, lock(folder):
        space = load_stored_space(folder / RESOLVED)
        sweep = Sweep(space, folder, JsonEvents(None, io.StringIO()), None, (), keep_only)
        sweep.checkpoints.all_ended()
        running: list[Trial] = []
        while True:
            while len(running) < 2 and (trial := sweep.next_trial()):
                write_config(trial_folder(folder, trial.number), trial.spec)
                running.append(trial)
            if not running:
                break
            trial = running.pop(0)
            time.sleep(seconds)
            if not _one_epoch(sweep, trial):
                running.append(trial)
            if after_epoch:
                after_epoch(sweep, trial)
        sweep.close()
    return sweep


def _one_epoch(sweep: Sweep, trial: Trial) -> bool:
    """Train one epoch from the last checkpoint; return whether the trial is over. The best epoch is every second."""
    folder = trial_folder(sweep.folder, trial.number)
    done, best = state_of(folder / LAST) if (folder / LAST).exists() else (0, 0)
    if done < EPOCHS:  # else a kill fell between the last checkpoint and the report of the trial's end
        done += 1
        if done % 2 == 0:
            best = done
            _write(folder / BEST, trial, done, best)
        _write(folder / LAST, trial, done, best)
    for number in range(1, done + 1):  # as ``fit`` reports again what an earlier program had
        sweep.record(trial.number, epoch(trial, number))
    if done == EPOCHS:
        sweep.record(trial.number, result(trial))
    return done == EPOCHS


def _write(path: Path, trial: Trial, done: int, best: int) -> None:
    with atomic_write(path, keep=previous(path) if path.name == LAST else None) as file:
        file.write(f"{done} {best} of trial {trial.number} {trial.identity}".encode())


def state_of(path: Path) -> tuple[int, int]:
    """Return the epoch of a checkpoint and the best epoch up to it."""
    done, best, *_ = path.read_text().split()
    return int(done), int(best)


def program(environment: dict[str, str], place: str, file: str, seconds: float) -> None:
    """Start the run at ``place``, or continue it if ``file``, its space, is ``-``; to be killed."""
    os.environ.update(environment)
    register_components()
    mirror.INTERVAL_SECONDS = 0.1
    run(local_run(place) if file == "-" else new(place, Path(file)), seconds)
