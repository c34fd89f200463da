"""The run's append-only truth: one JSON line an event. Tables, study and what is left to do are derived from it.

Events: ``trial`` (a point was chosen and resolved), ``epoch`` (one of its epochs ended), ``done`` (finished or failed).
"""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from st3sweep import results
from st3sweep.errors import UserError
from st3sweep.recipes import resolve

LEDGER = "ledger.jsonl"


@dataclass
class Trial:
    """What the ledger knows of one trial."""

    number: int
    params: dict[str, Any]
    spec: dict[str, Any]
    digest: str
    workers: int
    epochs: dict[int, dict[str, Any]] = field(default_factory=dict)
    status: str = "running"  # finished | failed | running
    error: str | None = None
    result: dict[str, Any] = field(default_factory=dict)


class Ledger:
    """The events of the run in ``folder``, appended and replayed. One process writes; see ``runner.lock``."""

    def __init__(self, folder: Path):
        self.path = folder / LEDGER
        self.trials: dict[int, Trial] = {}
        if self.path.exists():
            drop_torn_line(self.path)
            self._replay()
        self._file = open(self.path, "ab")  # noqa: SIM115 (open for the life of the run)

    def add_trial(self, number: int, params: dict[str, Any], spec: dict[str, Any], digest: str, workers: int) -> None:
        """A trial was chosen; from here on it is in the run whatever happens."""
        self._append(
            {
                "event": "trial",
                "trial": number,
                "params": params,
                "spec": spec,
                "digest": digest,
                "workers": workers,
            }
        )

    def add_epoch(self, number: int, record: dict[str, Any]) -> bool:
        """An epoch ended. A resumed trial reports its earlier epochs again: False for one that is known."""
        if record["epoch"] in self.trials[number].epochs:
            return False
        self._append({"event": "epoch", "trial": number, "record": record})
        return True

    def add_done(self, number: int, status: str, result: dict[str, Any], error: str | None = None) -> None:
        """The trial is over: ``finished`` with its result, or ``failed`` with a one-line error."""
        self._append({"event": "done", "trial": number, "status": status, "result": result, "error": error})

    def unfinished(self) -> list[Trial]:
        """Trials that were chosen and are not over, oldest first."""
        return [trial for trial in self.trials.values() if trial.status == "running"]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, event: dict[str, Any]) -> None:
        line = json.dumps({"time": round(time.time(), 3), **event}, ensure_ascii=False) + "\n"
        self._file.write(line.encode())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._apply(event)

    def _apply(self, event: dict[str, Any]) -> None:
        number = event["trial"]
        if event["event"] == "trial":
            keys = ("params", "spec", "digest", "workers")
            self.trials[number] = Trial(number, **{key: event[key] for key in keys})
        elif event["event"] == "epoch":
            self.trials[number].epochs[event["record"]["epoch"]] = event["record"]
        elif event["event"] == "done":
            trial = self.trials[number]
            trial.status, trial.error, trial.result = event["status"], event["error"], event["result"]
        else:
            raise ValueError(f"no such event: {event['event']}")

    def _replay(self) -> None:
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    self._apply(json.loads(line))
                except (ValueError, KeyError, TypeError):
                    raise UserError(f"{self.path}:{number}: not a line of a ledger; the file was altered") from None


def drop_torn_line(path: Path) -> None:
    """A process killed while it wrote leaves half a line at the end of ``path``: what it says never happened."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with open(path, "r+b") as file:
            file.truncate(whole)


def write_tables(folder: Path, ledger: Ledger) -> None:
    """Write ``trials``, ``epochs`` and ``layers`` as the ledger has them."""
    trials = list(ledger.trials.values())
    results.write_table(results.table_path(folder, "trials"), "trials", [trial_row(trial) for trial in trials])
    epochs = [{"trial": t.number, **t.epochs[epoch]} for t in trials for epoch in sorted(t.epochs)]
    results.write_table(results.table_path(folder, "epochs"), "epochs", epochs)
    layers = [{"trial": t.number, **layer} for t in trials for layer in t.result.get("layers", [])]
    results.write_table(results.table_path(folder, "layers"), "layers", layers)


def trial_row(trial: Trial) -> dict[str, Any]:
    """The trial as a row of ``results.TRIALS``."""
    result = {key: value for key, value in trial.result.items() if key in results.TRIALS.names}
    return {
        "trial": trial.number,
        "digest": trial.digest,
        **_described(trial.spec),
        "epochs": len(trial.epochs),
        "workers": trial.workers,
        "params": json.dumps(trial.params, ensure_ascii=False),
        "spec": json.dumps(trial.spec, ensure_ascii=False),
        **result,
        "status": trial.status,
        "error": trial.error,
    }


def _described(raw: dict[str, Any]) -> dict[str, Any]:
    """What the spec says of itself; nothing where it is not that of a trial, which is then why it failed."""
    try:
        spec = resolve(raw)
    except ValidationError:
        return {}
    return {
        "method": spec.sparsity.label,
        "model": spec.model.name,
        "dataset": spec.data.dataset,
        "seed": spec.seed,
        "sparsity_target": spec.sparsity.target,
        "gflops_target": spec.gflops.target if spec.gflops else None,
    }


def objective_values(trial: Trial, metrics: list[str]) -> list[float] | None:
    """The trial's objectives in order; None unless it finished with a finite value for each."""
    return finite_values(trial.result, metrics) if trial.status == "finished" else None


def finite_values(result: dict[str, Any], metrics: list[str]) -> list[float] | None:
    """The ``metrics`` of a result in order; None if one is missing or not finite."""
    values = [result.get(metric) for metric in metrics]
    finite = [float(v) for v in values if isinstance(v, int | float) and math.isfinite(v)]
    return finite if len(finite) == len(metrics) else None
