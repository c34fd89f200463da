"""Test the tables in parts: what a kill at any point leaves, what is read back, and the files that users know."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from st3sweep.runs import manifest as manifests
from st3sweep.runs import parts, table_rows
from st3sweep.runs.ledger import LEDGER, Ledger
from st3sweep.runs.manifest import FOLDER, MANIFEST, Manifest, read_manifest
from st3sweep.runs.table_rows import RunTables, read_parts, recorded_epochs, write_tables
from st3sweep.runs.tables import SCHEMAS, read_table, table_path
from st3sweep.runs.trial_state import EpochsInFiles
from st3sweep.util.storage.local import Local

TRIALS, EPOCHS, SLOTS = 24, 4, 3
SUMMARY = {"method": "ST-3", "model": "resnet8_w4", "dataset": "digits", "seed": 0, "sparsity_target": 0.8}
SUMMARY |= {"gflops_target": None, "epochs": EPOCHS}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a small run have many parts and blocks, and keep its files for the end; no power fails here."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(parts, "ROWS_PER_PART", {"epochs": 9, "layers": 7, "trials": 4, "index": 4})
    monkeypatch.setattr(table_rows, "SMALL_EPOCHS", -1)
    for module in (manifests, parts):
        monkeypatch.setattr(module, "TRIALS_PER_BLOCK", 5)


def record(trial: int, epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "val_top1": trial + epoch / 10, "val_loss": float("nan") if epoch == 2 else 0.1 * trial}


def end(ledger: Ledger, number: int) -> None:
    """End a trial: each fifth failed, each fifth stopped early, the others finished, with a metric of their own."""
    if number % 5 == 1:
        ledger.add_done(number, "failed", {}, "Diverged")
    elif number % 5 == 3 and not ledger.trials[number].promoted:
        ledger.add_done(number, "stopped", {"rung": 1, "wall_seconds": 1.0})
    else:
        layers = [{"layer": name, "position": at, "density": number / 100} for at, name in enumerate(("conv1", "fc"))]
        metric = {"val_f1": 0.5} if number >= 12 else {}
        ledger.add_done(number, "finished", {"val_top1": 1.0 * number, "gflops": 2.0, "layers": layers, **metric})


def work(folder: Path, *, every: int = 20) -> None:
    """Do what remains of a run of ``TRIALS`` trials in ``SLOTS`` slots, with the tables written every few events."""
    ledger, tables, events = Ledger(folder), RunTables(folder), 0
    while True:
        while len(ledger.unfinished()) < SLOTS and len(ledger.trials) < TRIALS:
            number = len(ledger.trials)
            spec = {"seed": 0, "number": number}
            ledger.add_trial(number, {"optim.lr": number / 7}, spec, f"digest {number}", 1, stored_summary=SUMMARY)
        running = ledger.unfinished()
        if not running:
            break
        trial = running[events * 7 % len(running)]
        if len(trial.epochs) < EPOCHS:
            ledger.add_epoch(trial.number, record(trial.number, len(trial.epochs) + 1))
        else:
            end(ledger, trial.number)
        events += 1
        if events % every == 0:
            tables._next = 0.0
            tables.write(ledger)
    tables.write(ledger, now=True)
    ledger.close()


def written(folder: Path) -> dict[str, pd.DataFrame]:
    return {name: read_table(folder, name) for name in SCHEMAS}


def assert_same(folder: Path, other: Path) -> None:
    for (name, table), expected in zip(written(folder).items(), written(other).values(), strict=True):
        pd.testing.assert_frame_equal(table, expected, obj=name)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a complete run with the tables as one writer in memory writes them: the reference for all others."""
    folder = tmp_path_factory.mktemp("whole")
    work(folder, every=10**9)
    shutil.rmtree(folder / FOLDER)
    write_tables(folder, Ledger(folder, read_only=True))
    return folder


def assert_nothing_twice(folder: Path) -> None:
    """Compare what the tables have after a kill with the ledger: rows of it, none twice; nor do other programs see any.

    Other programs read the folder of a table's parts, whatever the manifest says.
    """
    ledger = Ledger(folder, read_only=True)
    all_epochs = {(t.number, epoch) for t in ledger.trials.values() for epoch in t.epochs}
    for name, key in (("trials", ["trial"]), ("epochs", ["trial", "epoch"]), ("layers", ["trial", "layer"])):
        seen = []
        if list((folder / FOLDER / name).glob("*.parquet")):
            seen.append(ds.dataset(str(folder / FOLDER / name), format="parquet").to_table().to_pandas())
        if (table := read_parts(folder, name)) is not None:
            seen.append(table.to_pandas())
        for rows in seen:
            assert not rows.duplicated(key).any(), name
            assert set(rows["trial"]) <= set(ledger.trials)
            if name == "epochs":
                assert set(rows[key].itertuples(index=False, name=None)) <= all_epochs


def test_files_of_a_run_in_parts_are_those_of_one_in_memory(tmp_path: Path, undisturbed: Path) -> None:
    work(tmp_path)
    assert_same(tmp_path, undisturbed)
    found = read_manifest(Local(tmp_path))
    assert found is not None
    assert found.compacted
    assert [part.rows for part in found.parts["epochs"]] == [9] * 10 + [6]
    assert [part.rows for part in found.parts["index"]] == [4] * 6
    for name in SCHEMAS:  # and the folder of parts is a table with the same rows
        whole, folder = (
            ds.dataset(str(path), format="parquet").to_table().to_pandas()
            for path in (table_path(tmp_path, name), tmp_path / FOLDER / name)
        )
        order = [column for column in ("trial", "epoch", "position") if column in whole]
        pd.testing.assert_frame_equal(
            folder[list(whole)].sort_values(order, ignore_index=True), whole.sort_values(order, ignore_index=True)
        )


def test_index_restores_what_the_whole_ledger_says(tmp_path: Path) -> None:
    work(tmp_path)
    content, half = (tmp_path / LEDGER).read_bytes(), tmp_path / "half"
    half.mkdir()
    lines = content.splitlines(keepends=True)
    (half / LEDGER).write_bytes(b"".join(lines[:70]))
    ledger = Ledger(half)
    RunTables(half).write(ledger, now=True)
    assert any(isinstance(trial.epochs, EpochsInFiles) for trial in ledger.trials.values())
    (half / LEDGER).write_bytes(content)  # the tail is not in the tables
    indexed = Ledger(half, read_only=True)
    assert indexed.manifest.ledger_lines == 70
    shutil.rmtree(half / FOLDER)
    replayed = Ledger(half, read_only=True)
    assert [t.packed() for t in indexed.trials.values()] == [t.packed() for t in replayed.trials.values()]
    assert indexed.facts() == replayed.facts()
    assert (indexed.bytes, indexed.lines) == (replayed.bytes, replayed.lines) == (len(content), len(lines))


def test_what_an_ended_trial_leaves_to_the_files_is_read_from_there(tmp_path: Path) -> None:
    work(tmp_path)
    trial = Ledger(tmp_path, read_only=True).trials[7]
    assert trial.held_spec is None
    assert "layers" not in trial.result
    assert isinstance(trial.epochs, EpochsInFiles)
    assert trial.spec == {"seed": 0, "number": 7}
    assert [layer["layer"] for layer in trial.layers] == ["conv1", "fc"]
    assert sorted(trial.epochs) == [1, 2, 3, 4]
    assert trial.epochs[3] == record(7, 3)
    assert trial.last_epoch == {"epoch": 4, "val_top1": 7.4}


def test_epochs_come_back_in_the_order_of_their_arrival(tmp_path: Path) -> None:
    work(tmp_path)
    (tmp_path / "again").mkdir()
    shutil.copy(tmp_path / LEDGER, tmp_path / "again")
    order: list[list[tuple[int, int]]] = [[], []]
    for found, folder in zip(order, (tmp_path, tmp_path / "again"), strict=True):
        ledger = Ledger(folder, read_only=True)
        for table in recorded_epochs(ledger, ["trial", "epoch"]):
            found += [(row["trial"], row["epoch"]) for row in table.to_pylist()]
        found += [(number, record["epoch"]) for number, record in ledger.news.epochs]
    assert order[0] == order[1]
    assert order[0] != sorted(order[0])


class Killed(BaseException):
    """Ends a program at a certain point."""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_at_any_file_loses_nothing(
    moment: str, tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """End a program just before or after it has replaced its n-th file, and let the next one continue."""
    put, left = Local.put, [0]

    def killing(self: Local, name: str, **options: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and moment == "before":
            raise Killed
        return _AndThen(put(self, name, **options), kill=left[0] == 0)

    monkeypatch.setattr(Local, "put", killing)
    for number in range(1 + 2 * (moment == "after"), 16, 4):  # the first two writes, and the beginning of the third
        folder = tmp_path / str(number)
        folder.mkdir()
        left[0] = number
        with pytest.raises(Killed):
            work(folder, every=30)
        assert_nothing_twice(folder)
        left[0] = -1
        work(folder, every=60)
        assert_same(folder, undisturbed)


class _AndThen:
    def __init__(self, inner: Any, kill: bool):
        self._inner, self._kill = inner, kill

    def __enter__(self) -> Any:
        return self._inner.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._inner.__exit__(*error)
        if self._kill:
            raise Killed


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_kills_at_random_moments_lose_nothing(kills: int, tmp_path: Path, undisturbed: Path) -> None:
    """Kill a process while it writes, again and again: the last one ends with the tables of an undisturbed run."""
    rng = random.Random()  # nothing depends on it: a run that fails stays in its folder
    whole = tmp_path / "timed"
    whole.mkdir()
    began = time.monotonic()
    work(whole, every=4)
    took = time.monotonic() - began
    folder = tmp_path / "killed"
    folder.mkdir()
    for _ in range(kills):
        process = os.fork()
        if process == 0:
            try:
                work(folder, every=4)
            finally:
                os._exit(0)
        time.sleep(rng.uniform(0.2, 1.5) * took / (kills + 1))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        assert_nothing_twice(folder)
    work(folder, every=10)
    assert_same(folder, undisturbed)


def test_a_promoted_trial_is_in_the_tables_once(tmp_path: Path) -> None:
    work(tmp_path)
    before = read_table(tmp_path, "trials").set_index("trial")
    assert before.loc[3, "status"] == "stopped"
    ledger, tables = Ledger(tmp_path), RunTables(tmp_path)
    ledger.add_promoted(3)
    epochs = {epoch: record(3, epoch) for epoch in range(1, EPOCHS + 1)}
    assert json.dumps(ledger.trials[3].epochs, sort_keys=True) == json.dumps(epochs, sort_keys=True)
    tables.write(ledger)
    assert_nothing_twice(tmp_path)
    running = read_table(tmp_path, "trials").set_index("trial")
    assert running.loc[3, "status"] == "running"
    assert running.drop(3).equals(before.drop(3))
    end(ledger, 3)
    tables.write(ledger, now=True)
    after = read_table(tmp_path, "trials").set_index("trial")
    assert (len(after), after.loc[3, "status"], after.loc[3, "val_top1"]) == (TRIALS, "finished", 3.0)
    assert read_table(tmp_path, "layers")["trial"].tolist().count(3) == 2
    assert len(read_table(tmp_path, "epochs")) == TRIALS * EPOCHS
    assert_nothing_twice(tmp_path)


def test_a_write_that_fails_after_a_promotion_leaves_no_row_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part that lost the promoted trial's row has, with one appended, as many rows as the manifest counts."""
    monkeypatch.setattr(parts, "ROWS_PER_PART", dict.fromkeys(parts.ROWS_PER_PART, 100))
    ledger, tables, put = Ledger(tmp_path), RunTables(tmp_path), Local.put
    for number in range(4):
        ledger.add_trial(number, {}, {"seed": 0}, f"digest {number}", 1, stored_summary=SUMMARY)
        ledger.add_epoch(number, record(number, 1))
        if number < 3:
            end(ledger, number)
    ledger.add_done(3, "stopped", {"rung": 0})
    tables.write(ledger, now=True)
    ledger.add_promoted(3)
    ledger.add_trial(4, {}, {"seed": 0}, "digest 4", 1, stored_summary=SUMMARY)
    end(ledger, 4)

    def full(self: Local, name: str, **options: Any) -> Any:
        if name == MANIFEST:
            raise OSError("no space left")
        return put(self, name, **options)

    monkeypatch.setattr(Local, "put", full)
    with pytest.raises(OSError, match="no space left"):
        tables.write(ledger, now=True)
    monkeypatch.setattr(Local, "put", put)
    end(ledger, 3)
    tables.write(ledger, now=True)
    assert_nothing_twice(tmp_path)
    rows = read_table(tmp_path, "trials")
    assert rows[["trial", "status"]].values.tolist() == [
        [0, "finished"], [1, "failed"], [2, "finished"], [3, "finished"], [4, "finished"],
    ]  # fmt: skip


def test_a_small_run_has_its_files_all_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_rows, "SMALL_EPOCHS", 10)
    ledger, tables = Ledger(tmp_path), RunTables(tmp_path)
    ledger.add_trial(0, {}, {"seed": 0}, "digest", 1, stored_summary=SUMMARY)
    ledger.add_epoch(0, record(0, 1))
    tables.write(ledger)
    assert pd.read_parquet(table_path(tmp_path, "trials"))["status"].tolist() == ["running"]
    assert len(pd.read_parquet(table_path(tmp_path, "epochs"))) == 1
    for epoch in range(2, 12):
        ledger.add_epoch(0, record(0, epoch))
    tables._next = 0.0
    tables.write(ledger)  # too large now: the file stays behind, what reads the run does not
    assert len(pd.read_parquet(table_path(tmp_path, "epochs"))) == 1
    assert read_table(tmp_path, "epochs")["epoch"].tolist() == list(range(1, 12))
    assert table_rows.newest(tmp_path, "epochs") == tmp_path / FOLDER / "epochs"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Make a complete run whose tables count."""
    work(tmp_path)
    assert Ledger(tmp_path, read_only=True).manifest.ledger_lines > 0
    return tmp_path


@pytest.mark.parametrize("damage", ["manifest", "index", "no index", "other ledger", "older ledger", "empty manifest"])
def test_tables_that_do_not_fit_are_written_anew(damage: str, run: Path, undisturbed: Path) -> None:
    """All of it follows from the ledger: a power cut, a restored copy or a stray hand costs time only."""
    index = run / FOLDER / "index" / "part-000002.jsonl"
    content = (run / LEDGER).read_bytes()
    lines = content.splitlines(keepends=True)
    if damage == "manifest":
        (run / MANIFEST).write_text("{")
    elif damage == "empty manifest":
        (run / MANIFEST).write_bytes(b"")
    elif damage == "index":
        index.write_text("\n")
    elif damage == "no index":
        index.unlink()
    elif damage == "older ledger":
        (run / LEDGER).write_bytes(b"".join(lines[:90]))
    else:
        (run / LEDGER).write_bytes(b"".join([*lines[:-1], lines[-1].replace(b" ", b"  ", 1)]))
    ledger = Ledger(run, read_only=True)
    assert ledger.manifest.ledger_lines == 0
    assert len(ledger.news.epochs) == sum(
        b'"epoch", "trial"' in line for line in (run / LEDGER).read_bytes().split(b"\n")
    )
    work(run)
    assert_same(run, undisturbed)
    assert Ledger(run, read_only=True).manifest.ledger_lines > 0
    known = {part.name for table in Ledger(run, read_only=True).manifest.parts.values() for part in table}
    assert {name for name, _ in Local(run).list(FOLDER)} == {*known, MANIFEST}


def test_parts_of_a_version_that_knew_a_column_less_are_widened(tmp_path: Path) -> None:
    storage, manifest = Local(tmp_path), Manifest()
    rows = [{"trial": 0, **record(0, epoch)} for epoch in range(1, 12)]
    parts.append_rows(storage, manifest, "epochs", rows)
    for part in manifest.parts["epochs"]:
        pq.write_table(parts.read_part(storage, part).drop_columns("threshold"), tmp_path / part.name)
    parts.append_rows(storage, manifest, "epochs", [{"trial": 0, **record(0, 12), "threshold": 0.5}])
    whole = ds.dataset(tmp_path / FOLDER / "epochs").to_table()
    assert whole.schema.names == SCHEMAS["epochs"].names
    assert whole["threshold"].to_pylist() == [None] * 11 + [0.5]
    assert whole["epoch"].to_pylist() == list(range(1, 13))
