"""The tables of a run as its ledger has them: rows of ``tables.TRIALS``, ``EPOCHS`` and ``LAYERS``."""

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
SHARE_OF_TIME = 0.02  # the files are rewritten whole, so the more rows, the less often


class RunTables:
    """Writes the tables of the run in ``folder`` now and then, and the rows of trials that are over only once."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._next = 0.0
        self._ended: dict[int, dict[str, Any]] = {}

    def write(self, ledger: Ledger, *, now: bool = False) -> None:
        """Write them if that is due, or ``now``."""
        started = time.monotonic()
        if not now and started < self._next:
            return
        try:
            write_tables(self.folder, ledger, self._ended)
        except OSError:
            if now:
                raise  # else it is tried again: the ledger has it all
        took = time.monotonic() - started
        self._next = started + max(LEAST_INTERVAL_SECONDS, took / SHARE_OF_TIME)


def write_tables(folder: Path, ledger: Ledger, ended: dict[int, dict[str, Any]] | None = None) -> None:
    """Write ``trials``, ``epochs`` and ``layers``. ``ended`` keeps the rows of trials that are over."""
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
    """The trial as a row of ``tables.TRIALS``."""
    result = {key: value for key, value in trial.result.items() if key in tables.TRIALS.names}
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
    """Columns that the settings decide; none where they are not those of a trial, which is then why it failed."""
    return {} if summary is None else {name: v for name, v in asdict(summary).items() if name != "epochs"}
