"""Append-only record of a run: one JSON line per event. Tables, study and remaining work are derived from it.

Events: ``session`` (a program started or resumed the run, with its current space), ``trial`` (a point was chosen and
resolved), ``began`` (a slot has it), ``epoch`` (one of its epochs ended), ``put_back`` (it was requeued: no slot has
it, and it is not over), ``done`` (finished, stopped early or failed), ``promoted`` (a stopped trial is to resume),
``exhausted`` (the space has no further point), ``closed`` (the program ended in order).
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
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
    """The ledger cannot be written: the run must stop until it can."""


@dataclass
class Trial:
    """State of one trial according to the ledger."""

    number: int
    params: dict[str, Any]
    spec: dict[str, Any]
    digest: str
    workers: int
    gpus: float = 0.0  # of all its workers
    price_per_hour: float | None = None
    replicate_of: int | None = None  # number of the trial that this one repeats with another seed
    stored_summary: dict[str, Any] | None = None
    epochs: dict[int, dict[str, Any]] = field(default_factory=dict)
    status: str = "running"  # finished | stopped | failed | running
    error: str | None = None
    result: dict[str, Any] = field(default_factory=dict)
    promoted: bool = False
    gpu_hours: float = 0.0  # while a slot had it, up to its last event; money likewise
    money: float = 0.0
    began: float | None = None  # time of its last event in a slot; None while no slot has it
    ended: float | None = None  # wall seconds of the run, as ``Ledger.wall_seconds``, when it was over

    @cached_property
    def summary(self) -> TrialSummary | None:
        """Return its settings as tables and live views show them; None if they are not a valid trial."""
        if not self.digest:
            return None
        if self.stored_summary is not None and set(self.stored_summary) == set(TrialSummary.__dataclass_fields__):
            return TrialSummary(**self.stored_summary)
        return TrialSummary.from_stored(self.spec)

    @property
    def seed(self) -> int:
        return int(self.spec["seed"])

    @property
    def identity(self) -> str:
        """Return a key that is equal for trials that give the same numbers; see ``TrialSettings.identity``."""
        return f"{self.digest} {self.seed}"

    @property
    def is_replicate(self) -> bool:
        return self.replicate_of is not None

    @property
    def may_be_on_front(self) -> bool:
        """Return whether it finished and belongs to the search itself."""
        return self.status == "finished" and not self.is_replicate


class Ledger:
    """The events of the run in ``folder``, appended and replayed. One process writes; see ``folder.lock``.

    ``read_only`` is for readers: half a line at the end is then one that the writer has not finished.
    """

    def __init__(self, folder: Path, *, read_only: bool = False):
        self.path = folder / LEDGER
        self.trials: dict[int, Trial] = {}
        self.space: dict[str, Any] | None = None  # of the last session
        self.expected_trials: int | None = None  # of the search, as the last session had it
        self.plugins: list[str] = []  # modules that the last session imported
        self.foreign: dict[str, dict[str, Any]] = {}  # components from outside the package (``trial.plugins``)
        self.exhausted = False  # whether the space is
        self.why = ""  # the last session ended early
        self.wall_seconds = 0.0  # of all sessions, up to the last event; so are the next two
        self.gpu_hours = self.money = 0.0
        self._last_time: float | None = None
        self.epoch_order: list[tuple[int, int]] = []  # (trial, epoch) in order of arrival, for early stopping
        self._file: RawIOBase | None = None
        if self.path.exists():
            if not read_only:
                drop_torn_line(self.path)
            self._replay()
        if not read_only:
            self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 (open for the life of the run)

    def add_session(
        self,
        space: dict[str, Any],
        expected_trials: int | None = None,
        plugins: Sequence[str] = (),
        foreign: Mapping[str, Any] | None = None,
    ) -> None:
        """Record that a program started or resumed the run: its space as plain data, number of trials, and plugins.

        ``foreign`` are the components that the space takes from outside the package.
        """
        facts: dict[str, Any] = {"space": space, "expected_trials": expected_trials, "plugins": list(plugins)}
        if foreign:
            facts["foreign"] = dict(foreign)
        self._append({"event": "session", **facts}, sync=True)

    def add_trial(
        self, number: int, params: dict[str, Any], spec: dict[str, Any], digest: str, workers: int, **facts: Any
    ) -> None:
        """Record a chosen trial, which from here on is in the run.

        ``facts``: stored_summary, gpus, price_per_hour, replicate_of. A point that turned out to be no valid trial has
        the empty string as its digest.
        """
        chosen = {"trial": number, "params": params, "spec": spec, "digest": digest, "workers": workers, **facts}
        self._append({"event": "trial", **chosen})

    def add_began(self, number: int, **facts: Any) -> None:
        """Record that a slot has the trial: its cost counts from now. ``facts``: gpus, price_per_hour, if changed."""
        self._append({"event": "began", "trial": number, **facts})

    def add_requeued(self, number: int) -> None:
        """Record that the trial was requeued: it costs nothing until another slot has it."""
        self._append({"event": "put_back", "trial": number})

    def add_epoch(self, number: int, record: dict[str, Any]) -> bool:
        """Record an epoch; return False for a known one, since a resumed trial reports its earlier epochs again."""
        if record["epoch"] in self.trials[number].epochs:
            return False
        self._append({"event": "epoch", "trial": number, "record": record})
        return True

    def add_done(self, number: int, status: str, result: dict[str, Any], error: str | None = None) -> None:
        """Record the end: ``finished`` with its result, ``stopped`` early, or ``failed`` with a one-line error."""
        event = {"event": "done", "trial": number, "status": status, "result": result, "error": error}
        self._append(event, sync=True)

    def add_promoted(self, number: int) -> None:
        """Record that the stopped trial resumes from its checkpoint, to train to its last epoch."""
        self._append({"event": "promoted", "trial": number}, sync=True)

    def add_exhausted(self) -> None:
        """Record that the search has proposed every point of the space."""
        self._append({"event": "exhausted"})

    def add_closed(self, why: str = "") -> None:
        """Record that the program ends, and ``why`` if early: the time since the last event counts as spent."""
        self._append({"event": "closed", **({"why": why} if why else {})}, sync=True)

    def seconds_since_last(self, now: float) -> float:
        """Return the seconds since the last event of this session."""
        return 0.0 if self._last_time is None else max(0.0, now - self._last_time)

    def unfinished(self) -> list[Trial]:
        """Return trials that were chosen and are not over, oldest first."""
        return [trial for trial in self.trials.values() if trial.status == "running"]

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _append(self, event: dict[str, Any], *, sync: bool = False) -> None:
        """Write one line, whole even if the program is killed; with ``sync``, even if the power fails."""
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
            self.expected_trials = event.get("expected_trials")
            self.plugins, self.foreign = event.get("plugins", []), event.get("foreign", {})
            self.why = ""
            for trial in self.trials.values():
                trial.began = None
        else:
            self.wall_seconds += now - (now if self._last_time is None else self._last_time)
            if kind == "closed":
                self.why = event.get("why", "")
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
            # Field names are interned: they would take half of the memory of a sweep with many epochs.
            trial.epochs[event["record"]["epoch"]] = {sys.intern(key): value for key, value in event["record"].items()}
            self.epoch_order.append((number, event["record"]["epoch"]))
        elif kind == "put_back":
            trial.began = None
        elif kind == "done":
            trial.status, trial.error, trial.result = event["status"], event["error"], event["result"]
            trial.began, trial.ended = None, self.wall_seconds
        elif kind == "promoted":
            trial.status, trial.error, trial.result, trial.promoted = "running", None, {}, True
            trial.ended = None
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
    """Return the arguments of ``Ledger.add_trial`` that follow from ``settings``."""
    return {
        "spec": settings.model_dump(mode="json"),
        "digest": settings.digest(),
        "stored_summary": asdict(TrialSummary.of(settings)),
    }


def objective_values(trial: Trial, metrics: list[str]) -> list[float] | None:
    """Return the trial's objectives in order; None unless it finished with a finite value for each."""
    return finite_values(trial.result, metrics) if trial.status == "finished" else None


def finite_values(result: dict[str, Any], metrics: list[str]) -> list[float] | None:
    """Return the ``metrics`` of a result in order; None if one is missing or not finite."""
    values = [result.get(metric) for metric in metrics]
    finite = [float(v) for v in values if isinstance(v, int | float) and math.isfinite(v)]
    return finite if len(finite) == len(metrics) else None
