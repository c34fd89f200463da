"""The run's append-only truth: one JSON line an event. Tables, study and what is left to do are derived from it.

Events: ``session`` (a program took the run up, with the space as it stands), ``trial`` (a point was chosen and
resolved), ``began`` (a slot has it), ``epoch`` (one of its epochs ended), ``put_back`` (no slot has it, and it is not
over), ``done`` (finished, stopped early or failed), ``promoted`` (a stopped trial is to go on), ``exhausted`` (the
space has no further point), ``closed`` (the program ended in order).
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from io import RawIOBase
from pathlib import Path
from typing import Any

from st3sweep.runs.trial_summary import TrialSummary
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.errors import UserError
from st3sweep.util.storage.append_only import append, drop_torn_line

LEDGER = "ledger.jsonl"


class LedgerError(UserError):
    """The ledger cannot be written: nothing more may happen in this run until it can."""


@dataclass
class Trial:
    """What the ledger knows of one trial."""

    number: int
    params: dict[str, Any]
    spec: dict[str, Any]
    digest: str
    workers: int
    gpus: float = 0.0  # of all its workers
    price_per_hour: float | None = None
    replicate_of: int | None = None  # the trial that this one repeats with another seed
    stored_summary: dict[str, Any] | None = None
    epochs: dict[int, dict[str, Any]] = field(default_factory=dict)
    status: str = "running"  # finished | stopped | failed | running
    error: str | None = None
    result: dict[str, Any] = field(default_factory=dict)
    promoted: bool = False
    gpu_hours: float = 0.0  # while a slot had it, up to its last event, like the next
    money: float = 0.0
    began: float | None = None  # time of the last event since a slot has it; None while none has

    @cached_property
    def summary(self) -> TrialSummary | None:
        """Its settings as tables and live views show them; None where they are no valid trial."""
        if self.stored_summary is not None:
            return TrialSummary(**self.stored_summary)
        return TrialSummary.from_stored(self.spec)

    @property
    def seed(self) -> int:
        return int(self.spec["seed"])

    @property
    def identity(self) -> str:
        """Equal for trials that give the same numbers; see ``TrialSettings.identity``."""
        return f"{self.digest} {self.seed}"

    @property
    def is_replicate(self) -> bool:
        return self.replicate_of is not None

    @property
    def may_be_on_front(self) -> bool:
        """Whether it finished and belongs to the search itself."""
        return self.status == "finished" and not self.is_replicate


class Ledger:
    """The events of the run in ``folder``, appended and replayed. One process writes; see ``run_folder.lock``.

    ``read_only`` is for those who look on: half a line at the end is then one that is being written.
    """

    def __init__(self, folder: Path, *, read_only: bool = False):
        self.path = folder / LEDGER
        self.trials: dict[int, Trial] = {}
        self.space: dict[str, Any] | None = None  # of the last session
        self.expected_trials: int | None = None  # of the search, as the last session had it
        self.knows_expected_trials = False
        self.plugins: list[str] = []  # modules that the last session imported
        self.exhausted = False  # the space
        self.wall_seconds = 0.0  # of all sessions, up to the last event, like the next two
        self.gpu_hours = self.money = 0.0
        self._last_time: float | None = None
        self.epoch_order: list[tuple[int, int]] = []  # (trial, epoch) as they came, for early stopping
        self._file: RawIOBase | None = None
        if self.path.exists():
            if not read_only:
                drop_torn_line(self.path)
            self._replay()
        if not read_only:
            self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 (open for the life of the run)

    def add_session(
        self, space: dict[str, Any], expected_trials: int | None = None, plugins: Sequence[str] = ()
    ) -> None:
        """A program took the run up: its search space as plain data, its number of trials, and its plugins."""
        facts = {"space": space, "expected_trials": expected_trials, "plugins": list(plugins)}
        self._append({"event": "session", **facts}, sync=True)

    def add_trial(
        self, number: int, params: dict[str, Any], spec: dict[str, Any], digest: str, workers: int, **facts: Any
    ) -> None:
        """A trial was chosen; from here on it is in the run.

        ``facts``: stored_summary, gpus, price_per_hour, replicate_of. The digest of a point that turned out to be no
        valid trial is the empty string.
        """
        chosen = {"trial": number, "params": params, "spec": spec, "digest": digest, "workers": workers, **facts}
        self._append({"event": "trial", **chosen})

    def add_began(self, number: int, **facts: Any) -> None:
        """A slot was given the trial: from now on it costs. ``facts``: gpus and price_per_hour, where they changed."""
        self._append({"event": "began", "trial": number, **facts})

    def add_requeued(self, number: int) -> None:
        """Its slot is gone or paused: until another has it, it waits at no cost."""
        self._append({"event": "put_back", "trial": number})

    def add_epoch(self, number: int, record: dict[str, Any]) -> bool:
        """An epoch ended. A resumed trial reports its earlier epochs again: False for one that is known."""
        if record["epoch"] in self.trials[number].epochs:
            return False
        self._append({"event": "epoch", "trial": number, "record": record})
        return True

    def add_done(self, number: int, status: str, result: dict[str, Any], error: str | None = None) -> None:
        """The trial is over: ``finished`` with its result, ``stopped`` early, or ``failed`` with a one-line error."""
        event = {"event": "done", "trial": number, "status": status, "result": result, "error": error}
        self._append(event, sync=True)

    def add_promoted(self, number: int) -> None:
        """The stopped trial is to go on from its checkpoint, to its last epoch."""
        self._append({"event": "promoted", "trial": number}, sync=True)

    def add_exhausted(self) -> None:
        """The search has had every point of the space."""
        self._append({"event": "exhausted"})

    def add_closed(self) -> None:
        """The program ends: what was spent since the last event counts."""
        self._append({"event": "closed"}, sync=True)

    def seconds_since_last(self, now: float) -> float:
        """Since the last event of this session."""
        return 0.0 if self._last_time is None else max(0.0, now - self._last_time)

    def unfinished(self) -> list[Trial]:
        """Trials that were chosen and are not over, oldest first."""
        return [trial for trial in self.trials.values() if trial.status == "running"]

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _append(self, event: dict[str, Any], *, sync: bool = False) -> None:
        """Write one line. What a kill of the program leaves is whole; with ``sync`` also what a power cut leaves."""
        event = {"time": round(time.time(), 3), **event}
        line = json.dumps(event, ensure_ascii=False).encode() + b"\n"
        assert self._file is not None, "opened to read only"
        try:
            append(self._file, line, sync=sync)
        except OSError as error:
            raise LedgerError(f"{self.path}: cannot be written ({error.strerror})") from error
        self._apply(event)

    def _apply(self, event: dict[str, Any]) -> None:
        kind, now = event["event"], event["time"]
        if kind == "session":
            self.space = event["space"]
            self.knows_expected_trials = "expected_trials" in event  # sessions before 0.2 did not say
            self.expected_trials = event.get("expected_trials")
            self.plugins = event.get("plugins", [])
            for trial in self.trials.values():
                trial.began = None
        else:
            self.wall_seconds += now - (now if self._last_time is None else self._last_time)
            if kind == "closed":
                self._close_all(now)
            elif kind == "exhausted":
                self.exhausted = True
            else:
                self._apply_to_trial(kind, event)
        self._last_time = now

    def _apply_to_trial(self, kind: str, event: dict[str, Any]) -> None:
        number = event["trial"]
        if kind == "trial":
            facts = {key: value for key, value in event.items() if key not in ("event", "time", "trial")}
            self.trials[number] = Trial(number, **facts)
            return
        trial = self.trials[number]
        if trial.began is not None:
            self._charge(trial, event["time"])
        if kind == "began":
            trial.began = event["time"]
            trial.gpus = event.get("gpus", trial.gpus)
            trial.price_per_hour = event.get("price_per_hour", trial.price_per_hour)
        elif kind == "epoch":
            # Names of fields are shared: they would be half of the memory that a sweep of many epochs takes.
            trial.epochs[event["record"]["epoch"]] = {sys.intern(key): value for key, value in event["record"].items()}
            self.epoch_order.append((number, event["record"]["epoch"]))
        elif kind == "put_back":
            trial.began = None
        elif kind == "done":
            trial.status, trial.error, trial.result = event["status"], event["error"], event["result"]
            trial.began = None
        elif kind == "promoted":
            trial.status, trial.error, trial.result, trial.promoted = "running", None, {}, True
        else:
            raise ValueError(f"no such event: {kind}")

    def _close_all(self, now: float) -> None:
        for trial in self.trials.values():
            if trial.began is not None:
                self._charge(trial, now)
                trial.began = None

    def _charge(self, trial: Trial, now: float) -> None:
        assert trial.began is not None
        hours, trial.began = (now - trial.began) / 3600, now
        gpu_hours, money = hours * trial.gpus, hours * (trial.price_per_hour or 0.0)
        trial.gpu_hours, trial.money = trial.gpu_hours + gpu_hours, trial.money + money
        self.gpu_hours, self.money = self.gpu_hours + gpu_hours, self.money + money

    def _replay(self) -> None:
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    return
                try:
                    self._apply(json.loads(line))
                except (ValueError, KeyError, TypeError):
                    raise UserError(f"{self.path}:{number}: not a line of a ledger; the file was altered") from None


def stored(settings: TrialSettings) -> dict[str, Any]:
    """The arguments of ``Ledger.add_trial`` that follow from ``settings``."""
    return {
        "spec": settings.model_dump(mode="json"),
        "digest": settings.digest(),
        "stored_summary": asdict(TrialSummary.of(settings)),
    }


def objective_values(trial: Trial, metrics: list[str]) -> list[float] | None:
    """The trial's objectives in order; None unless it finished with a finite value for each."""
    return finite_values(trial.result, metrics) if trial.status == "finished" else None


def finite_values(result: dict[str, Any], metrics: list[str]) -> list[float] | None:
    """The ``metrics`` of a result in order; None if one is missing or not finite."""
    values = [result.get(metric) for metric in metrics]
    finite = [float(v) for v in values if isinstance(v, int | float) and math.isfinite(v)]
    return finite if len(finite) == len(metrics) else None
