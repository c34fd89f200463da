"""Decide what a run does next, from its ledger, study, early stopping, budget and replicates, which meet only here."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from st3sweep.early_stopping import rebuilding
from st3sweep.early_stopping.rules import EarlyStopping
from st3sweep.reporting.json_events import JsonEvents
from st3sweep.reporting.live_table import LiveTable
from st3sweep.reporting.trial_logger import TrialLogger
from st3sweep.runs.folder import take_stop_request
from st3sweep.runs.ledger import Ledger, LedgerError, Trial, stored
from st3sweep.runs.table_rows import RunTables, recorded_epochs
from st3sweep.runs.trial_state import finite_values, objective_values
from st3sweep.search.searcher import Exhausted, Searcher
from st3sweep.space.first_points import first_points
from st3sweep.space.measuring import LATENCY, SIZE
from st3sweep.space.space import Space
from st3sweep.sweep import budget
from st3sweep.sweep.checkpoints import CheckpointRemover, check_promotable
from st3sweep.sweep.measuring import Measuring, left_in_words, unmeasured
from st3sweep.sweep.replicates import next_replicate
from st3sweep.sweep.warm_start import EarlierRuns
from st3sweep.trial.plugins import foreign_components
from st3sweep.trial.recipes import resolve
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.collection import paused_collection
from st3sweep.util.errors import UserError


@dataclass(frozen=True)
class Outcome:
    """How a program's part in a run ended; ``why`` in words, ``spent`` the limit of the budget that was reached."""

    end: Literal["complete", "budget", "interrupted"]
    why: str = ""
    spent: str | None = None


MAX_LOSSES = 3  # slots that a trial loses before it fails


class Sweep:
    """State of a sweep: ``next_trial`` returns work, ``record`` takes its reports.

    ``to_stop`` are numbers of trials to stop after their current epoch.
    """

    @paused_collection()
    def __init__(
        self,
        space: Space,
        folder: Path,
        progress: LiveTable | JsonEvents,
        tracking: TrialLogger | None = None,
        plugins: Sequence[str] = (),
        keep_only: Callable[[int, Iterable[str]], None] | None = None,
    ):
        self.space, self.folder, self.progress, self.tracking = space, folder, progress, tracking
        self.resources = space.config.resources  # until the cluster is there, perhaps with ``auto``
        self.ledger = Ledger(folder)
        expected = space.expected_trials()
        self.ledger.add_session(space.document.data, expected, plugins, foreign_components(space.document.data))
        self.earlier = EarlierRuns(space)
        first = [*first_points(space), *self.earlier.hints]
        self.searcher = Searcher(space, folder, first, self.ledger, progress.say)
        self.tables = RunTables(folder)
        self.metrics = space.config.objective_names()
        keep, goals = space.config.resources.checkpoints, space.config.goals()
        self.checkpoints = CheckpointRemover(folder, self.ledger, keep, goals, progress.say, keep_only)
        asked = space.config
        self.measuring = Measuring(folder, progress.say, latency=asked.measures_latency, size=asked.measures_size)
        self.waiting = self.ledger.unfinished()  # from an earlier process: they resume from their checkpoints
        self.held: set[int] = set()  # trials assigned to slots
        self.to_stop: set[int] = set()
        self.draining = self.pausing = False
        self.changes = 0  # so far: between two of them there is no new work for a slot, nor a trial to stop
        self.why = ""  # reason to end early
        self.losses: dict[int, int] = {}
        self.outputs: dict[int, str] = {}  # by trial that lost a slot: what to see, latest last
        self.total = expected or math.inf  # of the search; replicates come on top
        self.searched = sum(not trial.is_replicate for trial in self.ledger.trials.values())
        self._replay_early_stopping()

    def _replay_early_stopping(self) -> None:
        """Rebuild early stopping from the recorded epochs, in order, with the decisions that a kill left unexecuted."""
        self.early_stopping = EarlyStopping(self.space.config.early_stopping, self.space.config.seed)
        if self.space.config.early_stopping.name == "none":
            return
        trials = self.ledger.trials
        replicates = [trial.number for trial in trials.values() if trial.is_replicate]
        running = {trial.number for trial in self.ledger.unfinished() if not trial.promoted}
        tables = recorded_epochs(self.ledger, rebuilding.COLUMNS)
        blocks = ({name: table[name].to_numpy() for name in rebuilding.COLUMNS} for table in tables)
        searched = (
            {name: column[~np.isin(block["trial"], replicates)] for name, column in block.items()} for block in blocks
        )
        self.to_stop |= rebuilding.rebuild(self.early_stopping, searched, running)
        for number, record in self.ledger.news.epochs:
            self._show_early_stopping(trials[number], record)

    def _show_early_stopping(self, trial: Trial, record: dict[str, Any]) -> None:
        if trial.is_replicate:
            return
        may_stop = trial.status == "running" and not trial.promoted  # not so for most trials of a resumed run
        if self.early_stopping.observe(trial.number, record, judge=may_stop):
            self.to_stop.add(trial.number)

    def next_trial(self) -> Trial | None:
        """Return an unfinished trial, else a new one, else a replicate; None while there is nothing to do."""
        if self.draining or self.pausing:
            return None
        trial = self._next_waiting() or self._new_trial() or self._new_replicate()
        if trial is not None:
            self.held.add(trial.number)
            now = self._devices()  # may have changed since the trial was chosen
            self.ledger.add_began(trial.number, **{k: v for k, v in now.items() if v != getattr(trial, k)})
            self.progress.started(trial)
            if self.tracking:
                self.tracking.started(trial)
        return trial

    def _next_waiting(self) -> Trial | None:
        while self.waiting:
            trial = self.waiting.pop(0)
            if trial.digest:
                return trial
            # Its point is no valid trial, and the program was killed between the ledger's two lines on that.
            self._end(trial.number, "failed", {}, "its point is not a valid trial")
        return None

    def _new_trial(self) -> Trial | None:
        while self.trials_left() > 0 and not self.budget_hit(for_search=True):
            try:
                number, point = self.searcher.ask()
            except Exhausted:
                self.ledger.add_exhausted()
                return None
            try:
                settings = self.space.trial_for(point)
            except ValidationError as error:  # the checks of the space missed it: a failed trial, not a crash
                self.searched += 1
                self.ledger.add_trial(number, point, self.space.raw_trial(point), "", 0, **self.searcher.position())
                self._end(number, "failed", {}, str(error.errors()[0]["msg"]))
                continue
            self.searched += 1
            trial = self._add(number, point, settings, **self.searcher.position())
            result = self.earlier.result(settings)
            if result is None:
                return trial
            self._end(number, "finished", result | self.measuring.at_end(trial, result))
        if self.trials_left() <= 0:
            self.searcher.close()
        return None

    def _new_replicate(self) -> Trial | None:
        if self.space.config.replicates is None or self._searching() or self.budget_hit():
            return None
        found = next_replicate(self.ledger, self.space.config.replicates)
        if found is None:
            return None
        of, seed = found
        number = self.searcher.repeat(of.number, seed)
        return self._add(number, of.params, resolve({**of.spec, "seed": seed}), replicate_of=of.number)

    def _add(self, number: int, params: dict[str, Any], settings: TrialSettings, **facts: Any) -> Trial:
        workers = self.space.config.resources.workers
        self.ledger.add_trial(number, params, workers=workers, **stored(settings), **self._devices(), **facts)
        return self.ledger.trials[number]

    def _devices(self) -> dict[str, Any]:
        """Return the GPUs that a trial holds and their price per hour."""
        resources, price = self.resources, self.space.config.budget.price_per_device_hour
        return {"gpus": resources.gpus, "price_per_hour": None if price is None else price * resources.devices}

    def _searching(self) -> bool:
        """Return whether trials of the search run or wait: only when they have ended is the front known."""
        return any(not trial.is_replicate for trial in self.ledger.unfinished())

    def record(self, number: int, message: dict[str, Any]) -> None:
        """Process a slot's message about trial ``number``: an epoch, or how the trial ended."""
        self.changes += 1
        trial = self.ledger.trials[number]
        if "status" not in message:
            if self.ledger.add_epoch(number, message):
                self._show_early_stopping(trial, message)
                self.progress.epoch(trial, message, self.early_stopping.rung(number))
                if self.tracking:
                    self.tracking.epoch(trial, message)
        elif message["status"] == "finished":
            trained = [metric for metric in self.metrics if metric not in (LATENCY, SIZE)]
            if finite_values(message, trained) is None:
                self._end(number, "failed", message, f"an objective is not a number: {', '.join(self.metrics)}")
            else:
                self._end(number, "finished", {**message, **self.measuring.at_end(trial, message)})
        elif message["status"] == "interrupted":
            self.pause(message["error"])
            self._requeue(trial)
        elif message["status"] == "stopped" and number not in self.to_stop:
            self._requeue(trial)  # it was asked to pause
        else:
            self._end(number, message["status"], message, message.get("error"))
        self.tables.write(self.ledger)

    def lost(self, number: int, see: str = "") -> None:
        """Requeue the trial of a lost slot, or fail it once it has lost MAX_LOSSES slots.

        ``see`` names the file with the output of its worker, ``; see FILE``, if it has one.
        """
        if self.ledger.trials[number].status != "running":
            return
        self.changes += 1
        earlier = self.outputs.pop(number, "")
        if see := see or earlier:
            self.outputs[number] = see
        self.losses[number] = self.losses.get(number, 0) + 1
        if self.losses[number] >= MAX_LOSSES:
            self._end(number, "failed", {}, f"its slot was lost {MAX_LOSSES} times{see}")
        else:
            self._requeue(self.ledger.trials[number])

    def every_slot_lost(self, times: int, reason: str) -> None:
        """End the program: each slot was lost ``times`` times, most recently for ``reason``."""
        last = [f"; trial {number} was the last to lose one{see}" for number, see in self.outputs.items()][-1:]
        self.pause(f"every slot was lost, {times} times each: {reason}{''.join(last)}")

    def _requeue(self, trial: Trial) -> None:
        self.held.discard(trial.number)
        self.waiting.append(trial)
        self.ledger.add_requeued(trial.number)
        self.progress.requeue(trial)

    def _end(self, number: int, status: str, message: dict[str, Any], error: str | None = None) -> None:
        result = {key: value for key, value in message.items() if key not in ("status", "error")}
        self.held.discard(number)
        self.to_stop.discard(number)
        rung = self.early_stopping.rung(number)
        self.ledger.add_done(number, status, result if rung is None else {**result, "rung": rung}, error)
        trial = self.ledger.trials[number]
        self.searcher.tell(number, objective_values(trial, self.metrics), error, status)
        self.progress.done(trial)
        if self.tracking:
            self.tracking.done(trial)
        self.checkpoints.ended(trial)  # last: a kill before it leaves files, never an end without a record

    def drain(self, why: str) -> None:
        """Start no new trials; running ones train to the end."""
        self.draining, self.why = True, self.why or why
        self.changes += 1

    def pause(self, why: str) -> None:
        """Start no new trials; running ones stop after the current epoch and can be resumed."""
        self.pausing, self.why = True, self.why or why
        self.changes += 1

    def promote(self, numbers: Sequence[int]) -> None:
        """Requeue early-stopped trials to train them to the end. Raises UserError for any other trial."""
        numbers = list(dict.fromkeys(numbers))
        for number in numbers:
            trial = self.ledger.trials.get(number)
            if trial is None or trial.status != "stopped":
                is_ = "there is no such trial" if trial is None else f"it is {trial.status}"
                raise UserError(f"--promote {number}: only a trial that was stopped early can be promoted; {is_}")
            check_promotable(self.folder, trial)
        for number in numbers:
            self.ledger.add_promoted(number)
            self.waiting.append(self.ledger.trials[number])

    def measure(self) -> None:
        """Measure what the space asks for, a trial after another. What is measured is recorded at once."""
        total = len(unmeasured(self.ledger))
        for done, trial in enumerate(self.measuring.measure_all(self.ledger), 1):
            self.progress.measured(trial, done, total)
            self.tables.write(self.ledger)
            if take_stop_request(self.folder):
                self.pause("asked to stop")
                break

    def to_measure(self) -> int:
        """Return how many trials wait to be measured."""
        return len(unmeasured(self.ledger)) if self.measuring.latency else 0

    def close(self) -> None:
        """Write the tables and close the ledger."""
        with contextlib.suppress(OSError, LedgerError):  # a full disk; resuming the run writes all of it again
            self.ledger.add_closed("" if self.is_complete() else self.why)
            self.tables.write(self.ledger, now=True)
        self.ledger.close()
        self.searcher.close()
        self.end_tracking()

    def end_tracking(self) -> None:
        """Close the loggers."""
        if self.tracking:
            self.tracking.close()

    def show_budget(self) -> None:
        """Report how much of each limit of the budget is spent."""
        limits, spent = self.space.config.budget.limits(), self.spent()
        self.progress.budget({name: (spent[name], limits.get(name)) for name in spent})

    def should_stop(self, number: int) -> bool:
        return self.pausing or number in self.to_stop

    def is_complete(self) -> bool:
        """Return whether every trial of the budget or the grid, and every replicate, has ended."""
        return budget.is_complete(self.space, self.ledger, self.total, self.spent())

    def outcome(self) -> Outcome:
        if self.is_complete():
            left = left_in_words(self.to_measure())
            return Outcome("interrupted", left) if left else Outcome("complete")
        spent = self.blocking_limit()
        if spent:
            return Outcome("budget", f"the budget's {spent} is spent", spent)
        return Outcome("interrupted", self.why or "interrupted")

    def may_have_more(self) -> bool:
        """Return whether an idle slot should wait: replicates follow when the search has ended."""
        return bool(self.held) and self.space.config.replicates is not None and not (self.draining or self.pausing)

    def trials_left(self) -> float:
        """Return how many new trials the search may still choose."""
        return 0 if self.ledger.exhausted else self.total - self.searched

    def slots_needed(self) -> float:
        """Return the number of trials known to remain: more slots than that would start for nothing."""
        replicates = self.space.config.replicates
        return math.inf if replicates else len(self.waiting) + max(self.trials_left(), 0)

    def spent(self) -> dict[str, float]:
        """Return wall seconds, GPU-hours and money spent so far, over all sessions."""
        now = time.time()
        live = [self.ledger.trials[number] for number in self.held]
        hours = [(trial, max(0.0, now - (trial.began or now)) / 3600) for trial in live]
        return {
            "wall": self.ledger.wall_seconds + self.ledger.seconds_since_last(now),
            "gpu_hours": self.ledger.gpu_hours + sum(trial.gpus * more for trial, more in hours),
            "money": self.ledger.money + sum((trial.price_per_hour or 0.0) * more for trial, more in hours),
        }

    def blocking_limit(self) -> str | None:
        """Return the limit of the budget that keeps the run from continuing."""
        return budget.blocking_limit(self.space, self.ledger, self.spent())

    def budget_hit(self, *, for_search: bool = False) -> str | None:
        """Return the limit that is spent, if any; ``for_search`` leaves out the replicates' share."""
        return budget.limit_hit(self.space, self.spent(), for_search=for_search)
