"""Derive a run's tables from its ledger: rows of ``tables.TRIALS``, ``EPOCHS`` and ``LAYERS``."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from st3sweep.runs import tables
from st3sweep.runs.ledger import Ledger, Trial
from st3sweep.runs.trial_summary import TrialSummary

LEAST_INTERVAL_SECONDS = 5.0
SHARE_OF_TIME = 0.02  # the files are rewritten whole: the more rows, the less often


class RunTables:
    """Writes the tables of the run in ``folder`` at intervals; builds the rows of ended trials only once."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._next = 0.0
        self._ended: dict[int, dict[str, Any]] = {}

    def write(self, ledger: Ledger, *, now: bool = False) -> None:
        """Write the tables if that is due, or ``now``."""
        started = time.monotonic()
        if not now and started < self._next:
            return
        try:
            write_tables(self.folder, ledger, self._ended)
        except OSError:
            if now:
                raise  # else retried at the next interval: the ledger has all of it
        took = time.monotonic() - started
        self._next = started + max(LEAST_INTERVAL_SECONDS, took / SHARE_OF_TIME)


def write_tables(folder: Path, ledger: Ledger, ended: dict[int, dict[str, Any]] | None = None) -> None:
    """Write ``trials``, ``epochs`` and ``layers``. ``ended`` caches the rows of ended trials."""
    ended = {} if ended is None else ended
    trials = list(ledger.trials.values())
    for trial in trials:
        if trial.status == "running":
            ended.pop(trial.number, None)  # promoted
        elif trial.number not in ended:
            ended[trial.number] = trial_row(trial)
    rows = [ended.get(trial.number) or trial_row(trial) for trial in trials]
    tables.write_table(tables.table_path(folder, "trials"), "trials", rows)
    epochs = [{"trial": t.number, **t.epochs[epoch]} for t in trials for epoch in sorted(t.epochs)]
    tables.write_table(tables.table_path(folder, "epochs"), "epochs", epochs)
    layers = [{"trial": t.number, **layer} for t in trials for layer in t.result.get("layers", [])]
    tables.write_table(tables.table_path(folder, "layers"), "layers", layers)


def trial_row(trial: Trial) -> dict[str, Any]:
    """Return the trial as a row of ``tables.TRIALS``."""
    result = {
        key: value for key, value in trial.result.items() if key in tables.TRIALS.names or tables.is_own_metric(key)
    }
    return {
        "trial": trial.number,
        "digest": trial.digest,
        **_described(trial.summary),
        "replicate_of": trial.replicate_of,
        "epochs": len(trial.epochs),
        "workers": trial.workers,
        "gpu_hours": trial.gpu_hours,
        "cost": None if trial.price_per_hour is None else trial.money,
        "params": json.dumps(trial.params, ensure_ascii=False),
        "spec": json.dumps(trial.spec, ensure_ascii=False),
        **result,
        "status": trial.status,
        "error": trial.error,
    }


def _described(summary: TrialSummary | None) -> dict[str, Any]:
    """Return the columns that follow from the settings; none for a trial that failed for invalid settings."""
    return {} if summary is None else {name: v for name, v in asdict(summary).items() if name != "epochs"}
