"""Report a sweep as JSON events, one object a line."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, TextIO

from st3sweep.reporting.live_table import Spent
from st3sweep.runs.ledger import Trial
from st3sweep.util.text import json_line

BUDGET_SECONDS = 15.0  # between budget events


class JsonEvents:
    """JSON events with the interface of ``LiveTable``. Every line has ``event`` and ``time``, most have ``trial``."""

    def __init__(self, total: int | None, stream: TextIO | None = None):
        self.total = total
        self._stream = stream or sys.stdout
        self._next_budget = 0.0

    def __enter__(self) -> JsonEvents:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing."""

    def write(self, event: str, **facts: Any) -> None:
        """Print one event."""
        line = json_line({"event": event, "time": round(time.time(), 3), **facts})
        print(line, file=self._stream, flush=True)

    def say(self, text: str) -> None:
        self.write("note", text=text)

    def resumed(self, ended: Iterable[Trial]) -> None:
        self.write("sweep", trials=self.total, ended=[trial.number for trial in ended])

    def started(self, trial: Trial) -> None:
        facts = {"digest": trial.digest, "replicate_of": trial.replicate_of, "params": trial.params}
        self.write("started", trial=trial.number, epochs=len(trial.epochs), **facts)

    def epoch(self, trial: Trial, record: dict[str, Any], rung: int | None = None) -> None:
        self.write("epoch", trial=trial.number, rung=rung, record=record)

    def done(self, trial: Trial) -> None:
        result = {key: value for key, value in trial.result.items() if key != "layers"}
        self.write("done", trial=trial.number, status=trial.status, error=trial.error, result=result)

    def requeue(self, trial: Trial) -> None:
        self.write("put_back", trial=trial.number)

    def measured(self, trial: Trial, done: int, of: int) -> None:
        names = ("latency_ms", "latency_predicted_ms", "latency_disturbed", "size_mb")
        values = {name: trial.result.get(name) for name in names}
        self.write("measured", trial=trial.number, done=done, of=of, **values)

    def budget(self, spent: Spent) -> None:
        if time.monotonic() >= self._next_budget:
            self._next_budget = time.monotonic() + BUDGET_SECONDS
            self.write("budget", **{name: {"spent": used, "limit": limit} for name, (used, limit) in spent.items()})
