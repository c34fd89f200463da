"""Derive a run's tables from its ledger: rows of ``tables.TRIALS``, ``EPOCHS`` and ``LAYERS``."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from st3sweep.runs import parts, tables
from st3sweep.runs.ledger import LEDGER, Ledger, News, Trial
from st3sweep.runs.manifest import FOLDER, MANIFEST, Manifest, checked, read_manifest
from st3sweep.runs.trial_state import Files
from st3sweep.runs.trial_summary import TrialSummary
from st3sweep.util.storage.local import Local

LEAST_INTERVAL_SECONDS = 5.0
SHARE_OF_TIME = 0.02  # spent on writing, at most
HELD_EPOCHS = 10_000  # that are written however soon: 13 MB
SMALL_EPOCHS = 20_000  # up to which the files of the run's folder are rewritten each time


class RunTables:
    """Writes the tables of the run in ``folder`` at intervals, as parts; rows of an ended trial only once.

    While a run is small, the files of its folder are written too; else at the end.
    """

    def __init__(self, folder: Path):
        self.folder, self.storage = folder, Local(folder)
        self._first = True
        self._next = 0.0

    def write(self, ledger: Ledger, *, now: bool = False) -> None:
        """Write what is new if that is due, or ``now``, and then the files of the run's folder too.

        Raises OSError only for ``now``: else it is tried again at the next interval, since the ledger has all of it.
        """
        started = time.monotonic()
        if not now and started < self._next and len(ledger.news.epochs) < HELD_EPOCHS:
            return
        try:
            self._write(ledger, whole=now)
        except OSError:
            if now:
                raise
        took = time.monotonic() - started
        self._next = started + max(LEAST_INTERVAL_SECONDS, took / SHARE_OF_TIME)

    def _write(self, ledger: Ledger, *, whole: bool) -> None:
        manifest = copy.deepcopy(ledger.manifest)  # so that nothing has changed if a write fails
        news, ended = ledger.news, [ledger.news.ended[number] for number in sorted(ledger.news.ended)]
        ledger.sync()  # the manifest must not know more than the ledger has after a power failure
        parts.append_rows(
            self.storage, manifest, "epochs", [{"trial": number, **record} for number, record in news.epochs]
        )
        if news.promoted:
            gone = news.promoted | news.ended.keys()  # these too: a write that failed may have appended them already
            for name in ("trials", "layers"):
                parts.drop_trials(self.storage, manifest, name, gone)
        parts.append_rows(self.storage, manifest, "trials", [trial_row(trial) for trial in ended])
        layers = [{"trial": trial.number, **layer} for trial in ended for layer in trial.layers]
        parts.append_rows(self.storage, manifest, "layers", layers)
        parts.append_lines(self.storage, manifest, [trial.packed() for trial in ended])
        manifest.ledger_bytes, manifest.ledger_lines = ledger.bytes, ledger.lines
        manifest.ledger_check = checked(self.storage, LEDGER, ledger.bytes)
        manifest.run, manifest.open = ledger.facts(), [trial.packed() for trial in ledger.unfinished()]
        manifest.compacted = False
        small = manifest.rows("epochs") <= SMALL_EPOCHS
        if not small:
            manifest.write(self.storage)
        if small or whole:
            open_rows = [trial_row(trial) for trial in ledger.unfinished()]
            for name in tables.SCHEMAS:
                further = open_rows if name == "trials" else ()
                parts.compact(self.storage, manifest, name, tables.table_path("", name).name, further)
            manifest.compacted = True
            manifest.write(self.storage)
        ledger.manifest, ledger.news = manifest, News()
        for trial in ended:
            trial.leave_to_files(ledger.files)
        if self._first:
            self._remove_others(manifest)
            self._first = False

    def _remove_others(self, manifest: Manifest) -> None:
        """Remove files that a killed program left, or another ledger's."""
        known = {MANIFEST, *(part.name for table in manifest.parts.values() for part in table)}
        for name, _ in self.storage.list(FOLDER):
            if name not in known:
                self.storage.remove(name)


def write_tables(folder: Path, ledger: Ledger) -> None:
    """Write ``trials``, ``epochs`` and ``layers`` of a run whose trials are all in memory."""
    trials = list(ledger.trials.values())
    tables.write_table(tables.table_path(folder, "trials"), "trials", map(trial_row, trials))
    epochs = [{"trial": t.number, **t.epochs[epoch]} for t in trials for epoch in sorted(t.epochs)]
    tables.write_table(tables.table_path(folder, "epochs"), "epochs", epochs)
    layers = [{"trial": t.number, **layer} for t in trials for layer in t.layers]
    tables.write_table(tables.table_path(folder, "layers"), "layers", layers)


def read_parts(folder: Path, name: str) -> pa.Table | None:
    """Return table ``name`` from its parts; None if the file of the run's folder is as new. Raises as ``read_part``."""
    storage = Local(folder)
    manifest = read_manifest(storage)
    if manifest is None or manifest.compacted:
        return None
    files = Files(storage, LEDGER, lambda number: manifest.epochs_of(storage, [number])[number])
    further = [trial_row(Trial.unpacked(one, files)) for one in manifest.open] if name == "trials" else []
    found = list(parts.read_sorted(storage, manifest, name, further))
    return pa.concat_tables(found) if found else tables.as_arrow(name, [], [])


def newest(folder: Path, name: str) -> Path:
    """Return the path at which other programs read table ``name``: its file, or the folder of its parts if newer."""
    manifest = read_manifest(Local(folder))
    return tables.table_path(folder, name) if manifest is None or manifest.compacted else folder / FOLDER / name


def recorded_epochs(ledger: Ledger, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield ``columns`` of the epochs in the tables, in order of arrival; newer ones are in ``ledger.news``."""
    for part in ledger.manifest.parts.get("epochs", []):
        yield parts.read_part(ledger.storage, part, list(columns))


def trial_row(trial: Trial) -> dict[str, Any]:
    """Return the trial as a row of ``tables.TRIALS``."""
    result = {key: value for key, value in trial.result.items() if tables.is_column_of_trials(key)}
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
