"""Append-only record of a run: one JSON line per event. Tables, study and remaining work are derived from it.

Events: ``session`` (a program started or resumed the run, with its current space), ``trial`` (a point was chosen and
resolved), ``began`` (a slot has it), ``epoch`` (one of its epochs ended), ``put_back`` (it was requeued: no slot has
it, and it is not over), ``done`` (finished, stopped early or failed), ``promoted`` (a stopped trial is to resume),
``measured`` (the model of a finished trial was measured on this machine), ``exhausted`` (the space has no further
point), ``closed`` (the program ended in order).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from st3sweep.runs.manifest import Manifest, read_index, read_manifest
from st3sweep.runs.trial_state import Files, Trial
from st3sweep.runs.trial_summary import TrialSummary
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.collection import paused_collection
from st3sweep.util.errors import UserError
from st3sweep.util.storage.interface import Log
from st3sweep.util.storage.local import Local

__all__ = ["LEDGER", "Ledger", "LedgerError", "Trial", "stored"]
LEDGER = "ledger.jsonl"
_RUN = ("space", "expected_trials", "plugins", "foreign", "exhausted", "why", "wall_seconds", "gpu_hours", "money")


class LedgerError(UserError):
    """The ledger cannot be written: the run must stop until it can."""


@dataclass
class News:
    """What was appended since the tables were last written: epochs in order, and trials by number."""

    epochs: list[tuple[int, dict[str, Any]]] = field(default_factory=list)  # trial and record
    ended: dict[int, Trial] = field(default_factory=dict)
    promoted: set[int] = field(default_factory=set)  # after an end that is in the tables, or measured after it


class Ledger:
    """The events of the run in ``folder``, appended and replayed. One process writes; see ``folder.lock``.

    Replay begins where the tables end, if there are any (``manifest``). ``read_only`` is for readers: half a line at
    the end is then one that the writer has not finished.
    """

    @paused_collection()
    def __init__(self, folder: Path, *, read_only: bool = False):
        self.path = folder / LEDGER
        self.storage = Local(folder)
        self.trials: dict[int, Trial] = {}
        self._open: dict[int, Trial] = {}  # those that are not over
        self.space: dict[str, Any] | None = None  # of the last session
        self.expected_trials: int | None = None  # of the search, as the last session had it
        self.plugins: list[str] = []  # modules that the last session imported
        self.foreign: dict[str, dict[str, Any]] = {}  # components from outside the package (``trial.plugins``)
        self.exhausted = False  # whether the space is
        self.why = ""  # the last session ended early
        self.wall_seconds = 0.0  # of all sessions, up to the last event; so are the next two
        self.gpu_hours = self.money = 0.0
        self._last_time: float | None = None
        self.news = News()
        self.manifest = Manifest()  # of the tables; whoever writes them replaces it
        self.files = Files(self.storage, LEDGER, lambda number: self.manifest.epochs_of(self.storage, [number])[number])
        self.bytes = self.lines = 0  # replayed and appended
        self._log: Log | None = None if read_only else self.storage.append(LEDGER)
        if self.path.exists():
            self._restore()
            self._replay()

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

        ``facts``: stored_summary, gpus, price_per_hour, replicate_of, and those of ``Searcher.position``. A point that
        turned out to be no valid trial has the empty string as its digest.
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

    def add_measured(self, number: int, values: dict[str, Any], error: str = "") -> None:
        """Record what was measured of a finished trial: columns of ``tables.MEASURED`` that replace those of its end.

        ``error`` says in one line why something could not be measured. The time that it takes is no part of the run's.
        """
        event = {"event": "measured", "trial": number, "values": values, **({"error": error} if error else {})}
        self._append(event)

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
        return [self._open[number] for number in sorted(self._open)]

    def sync(self) -> None:
        """Make all events survive a power failure. Raises OSError."""
        if self._log is not None:
            self._log.sync()

    def close(self) -> None:
        """Close the file."""
        if self._log is not None:
            self._log.close()

    def facts(self) -> dict[str, Any]:
        """Return what is known of the run apart from its trials, as plain data for the manifest."""
        return {**{name: getattr(self, name) for name in _RUN}, "last_time": self._last_time}

    def _append(self, event: dict[str, Any], *, sync: bool = False) -> None:
        """Write one line, whole even if the program is killed; with ``sync``, even if the power fails."""
        event = {"time": round(time.time(), 3), **event}
        line = json.dumps(event, ensure_ascii=False).encode() + b"\n"
        assert self._log is not None, "opened to read only"
        try:
            self._log.append(line, sync=sync)
        except OSError as error:
            raise LedgerError(f"{self.path}: cannot be written ({error.strerror})") from error
        self._apply(event)
        self.bytes, self.lines = self.bytes + len(line), self.lines + 1

    def _apply(self, event: dict[str, Any]) -> None:
        kind, now = event["event"], event["time"]
        if kind == "session":
            self.space = event["space"]
            self.expected_trials = event.get("expected_trials")
            self.plugins, self.foreign = event.get("plugins", []), event.get("foreign", {})
            self.why = ""
            for trial in self._open.values():
                trial.began = None
        elif kind == "measured":
            self._apply_measured(self.trials[event["trial"]], event["values"])
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
            facts = {key: value for key, value in event.items() if key not in ("event", "time", "trial", "spec")}
            trial = Trial(number, held_spec=event["spec"], chosen_at=self.bytes, **facts)
            self.trials[number] = self._open[number] = trial
            return
        trial = self.trials[number]
        if trial.began is not None:
            self._charge(trial, event["time"])
        if kind == "began":
            trial.began = event["time"]
            trial.gpus = event.get("gpus", trial.gpus)
            trial.price_per_hour = event.get("price_per_hour", trial.price_per_hour)
        elif kind == "epoch":
            record = {sys.intern(key): value for key, value in event["record"].items()}  # names take half the memory
            trial.epochs = trial.epochs if isinstance(trial.epochs, dict) else dict(trial.epochs)
            trial.epochs[record["epoch"]] = record
            self.news.epochs.append((number, record))
        elif kind == "put_back":
            trial.began = None
        elif kind == "done":
            trial.status, trial.error, trial.result = event["status"], event["error"], event["result"]
            trial.began, trial.ended, trial.over_at = None, self.wall_seconds, self.bytes
            self._open.pop(number, None)
            self.news.ended[number] = trial
        elif kind == "promoted":
            trial.status, trial.error, trial.result, trial.promoted = "running", None, {}, True
            trial.ended = None
            trial.take_back()
            self._open[number] = trial
            if self.news.ended.pop(number, None) is None:
                self.news.promoted.add(number)
        else:
            raise ValueError(f"no such event: {kind}")

    def _apply_measured(self, trial: Trial, values: dict[str, Any]) -> None:
        trial.result = {**trial.result, **values}
        if self.news.ended.get(trial.number) is None:  # its row is in the tables: it is replaced
            self.news.promoted.add(trial.number)
        self.news.ended[trial.number] = trial

    def _close_all(self, now: float) -> None:
        for trial in self._open.values():
            if trial.began is not None:
                self._charge(trial, now)
                trial.began = None

    def _charge(self, trial: Trial, now: float) -> None:
        assert trial.began is not None
        hours, trial.began = (now - trial.began) / 3600, now
        gpu_hours, money = hours * trial.gpus, hours * (trial.price_per_hour or 0.0)
        trial.gpu_hours, trial.money = trial.gpu_hours + gpu_hours, trial.money + money
        self.gpu_hours, self.money = self.gpu_hours + gpu_hours, self.money + money

    def _restore(self) -> None:
        """Begin with the state that the tables' manifest describes, if it is one of this ledger and undamaged."""
        manifest = read_manifest(self.storage)
        if manifest is None:
            return
        try:
            if not manifest.fits(self.storage, LEDGER):
                raise ValueError("of another ledger")
            packed = {one["number"]: one for one in [*read_index(self.storage, manifest), *manifest.open]}
            trials = {number: Trial.unpacked(packed[number], self.files) for number in sorted(packed)}
            is_open = {number: trial for number, trial in trials.items() if trial.status == "running"}
            epochs = manifest.epochs_of(self.storage, [number for number, trial in is_open.items() if trial.epochs])
            run = {name: manifest.run[name] for name in (*_RUN, "last_time")}
        except (OSError, ValueError, KeyError, TypeError):  # all of it follows from the ledger
            if self._log is not None:
                manifest.remove(self.storage)
            return
        for number, trial in is_open.items():
            trial.epochs, trial.shown = epochs.get(number, {}), None
        self.trials, self._open, self._last_time = trials, is_open, run.pop("last_time")
        for name, value in run.items():
            setattr(self, name, value)
        self.manifest, self.bytes, self.lines = manifest, manifest.ledger_bytes, manifest.ledger_lines

    def _replay(self) -> None:
        with self.storage.open(LEDGER) as file:
            file.seek(self.bytes)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                try:
                    self._apply(json.loads(line))
                except (ValueError, KeyError, TypeError):
                    place = f"{self.path}:{self.lines + 1}"
                    raise UserError(f"{place}: not a line of a ledger; the file was altered") from None
                self.bytes, self.lines = self.bytes + len(line), self.lines + 1


def stored(settings: TrialSettings) -> dict[str, Any]:
    """Return the arguments of ``Ledger.add_trial`` that follow from ``settings``."""
    return {
        "spec": settings.model_dump(mode="json"),
        "digest": settings.digest(),
        "stored_summary": asdict(TrialSummary.of(settings)),
    }
