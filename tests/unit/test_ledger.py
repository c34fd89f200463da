"""Test the ledger: what it replays, drops and refuses, and the tables that are written from it."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from st3sweep.runs.ledger import LEDGER, Ledger, LedgerError
from st3sweep.runs.table_rows import RunTables, trial_row, write_tables
from st3sweep.runs.tables import SCHEMAS, read_table
from st3sweep.runs.trial_state import finite_values, objective_values
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.errors import UserError

TinyTrial = Callable[..., TrialSettings]
LAYER = {
    "layer": "conv1",
    "position": 0,
    "shape": "4x1x3x3",
    "numel": 36,
    "density": 0.5,
    "macs_dense": 10,
    "macs": 5.0,
}
RESULT: dict[str, Any] = {
    "val_top1": 81.5,
    "test_top1": 80.25,
    "gflops": 0.004,
    "gflops_dense": 0.04,
    "sparsity": 0.8,
    "best_epoch": 2,
    "epochs": 2,
    "wall_seconds": 1.5,
    "layers": [LAYER, {**LAYER, "layer": "fc", "position": 1, "threshold": 0.1}],
}


def record(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "val_top1": 70.0 + epoch, "train_loss": float("inf") if epoch == 1 else 0.5}


@pytest.fixture
def run(tmp_path: Path, tiny_trial: TinyTrial) -> Path:
    """Make a run: trial 0 finished, 1 failed, 2 running."""
    ledger = Ledger(tmp_path)
    for number in range(3):
        spec = tiny_trial(seed=number)
        ledger.add_trial(number, {"seed": number}, spec.model_dump(mode="json"), spec.digest(), 2)
        for epoch in (1, 2):
            assert ledger.add_epoch(number, record(epoch))
    ledger.add_done(0, "finished", RESULT)
    ledger.add_done(1, "failed", {}, "Diverged: the training loss is nan in epoch 3")
    ledger.close()
    return tmp_path


def tables(folder: Path, ledger: Ledger) -> dict[str, pd.DataFrame]:
    write_tables(folder, ledger)
    return {name: read_table(folder, name) for name in SCHEMAS}


def lines(run: Path) -> list[str]:
    return (run / LEDGER).read_text(encoding="utf-8").splitlines(keepends=True)


def test_replays_to_the_same_state_and_tables(tmp_path: Path, tiny_trial: TinyTrial) -> None:
    ledger = Ledger(tmp_path)
    spec = tiny_trial(sparsity={"criterion": "sigma"})
    ledger.add_trial(4, {"sparsity.criterion": "σ"}, spec.model_dump(mode="json"), spec.digest(), 1)
    ledger.add_epoch(4, record(1))
    replayed = Ledger(tmp_path)
    assert replayed.trials == ledger.trials
    assert list(replayed.trials) == [4]
    ledger.add_done(4, "finished", RESULT)
    replayed = Ledger(tmp_path)
    assert replayed.trials == ledger.trials
    for name, table in tables(tmp_path, ledger).items():
        pd.testing.assert_frame_equal(table, tables(tmp_path, replayed)[name])


def test_knows_what_is_unfinished(run: Path) -> None:
    ledger = Ledger(run)
    assert [(t.number, t.status) for t in ledger.trials.values()] == [(0, "finished"), (1, "failed"), (2, "running")]
    assert [trial.number for trial in ledger.unfinished()] == [2]


def test_epochs_share_the_names_of_their_fields(run: Path) -> None:
    """A sweep keeps all of its epochs, and the names would take half of their memory."""
    first, *others = (r for trial in Ledger(run, read_only=True).trials.values() for r in trial.epochs.values())
    assert len(others) == 5
    assert all(mine is its for other in others for mine, its in zip(first, other, strict=True))


def test_an_epoch_that_is_known_is_ignored(run: Path) -> None:
    ledger, before = Ledger(run), lines(run)
    assert not ledger.add_epoch(2, {**record(2), "val_top1": 0.0})
    assert lines(run) == before
    assert ledger.trials[2].epochs[2] == record(2)
    assert ledger.add_epoch(2, record(3))
    assert len(lines(run)) == len(before) + 1


@pytest.mark.parametrize("torn", ['{"time": 1.0, "event": "ep', "{", '{"event": "done", "trial": 2}'])
def test_half_a_line_at_the_end_is_dropped(run: Path, torn: str) -> None:
    before = lines(run)
    with open(run / LEDGER, "a") as file:
        file.write(torn)
    ledger = Ledger(run)
    assert lines(run) == before
    assert ledger.unfinished()[0].epochs == {1: record(1), 2: record(2)}
    ledger.add_epoch(2, record(3))
    assert Ledger(run).trials[2].epochs[3] == record(3)


def test_a_ledger_cut_anywhere_can_be_resumed(run: Path) -> None:
    content = (run / LEDGER).read_bytes()
    for size in range(0, len(content), 97):
        (run / LEDGER).write_bytes(content[:size])
        ledger = Ledger(run)
        assert len(lines(run)) == content[:size].count(b"\n")
        assert sum(1 + len(t.epochs) + (t.status != "running") for t in ledger.trials.values()) == len(lines(run))


@pytest.mark.parametrize(
    "altered",
    [
        b'{"time": 1.0, "event": "done", "trial": 0}',
        b'{"time": 1.0, "event": "dome", "trial": 0}',
        b'{"event": "began", "trial": 0}',
        b"not a line",
        b"",
        b"17",
        b"{}",
        b'{"event": "done", "trial": 0}',
        b'{"event": "epoch", "trial": 9, "record": {}}',
        b'{"event": "dome", "trial": 0}',
        b"\xff\xfe",
    ],
)
def test_an_altered_line_is_refused_with_its_number(run: Path, altered: bytes) -> None:
    content = (run / LEDGER).read_bytes().splitlines(keepends=True)
    content[4] = altered + b"\n"
    (run / LEDGER).write_bytes(b"".join(content))
    with pytest.raises(UserError, match=rf"{run / LEDGER}:5: not a line of a ledger"):
        Ledger(run)
    assert (run / LEDGER).read_bytes() == b"".join(content)


def test_an_altered_last_line_is_refused_if_it_is_whole(run: Path) -> None:
    with open(run / LEDGER, "a") as file:
        file.write("garbage\n")
    with pytest.raises(UserError, match=rf":{len(lines(run))}: not a line"):
        Ledger(run)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the time of the events that are written."""
    now = [0.0]
    monkeypatch.setattr("st3sweep.runs.ledger.time.time", lambda: now[0])

    def set_to(seconds: float) -> None:
        now[0] = seconds

    return set_to


def test_cost_counts_the_time_that_trials_were_in_slots(
    tmp_path: Path, tiny_trial: TinyTrial, clock: Callable[[float], None]
) -> None:
    spec = tiny_trial().model_dump(mode="json")
    ledger = Ledger(tmp_path)
    clock(1000)
    ledger.add_session({})
    ledger.add_trial(0, {}, spec, "a", 2, gpus=2.0, price_per_hour=3.0)
    ledger.add_trial(1, {}, spec, "b", 1, gpus=0.5)
    clock(1600)  # slots were starting: that is wall time, and no GPU's
    ledger.add_began(0)
    ledger.add_began(1)
    clock(2320)
    ledger.add_epoch(0, record(1))
    clock(3400)
    ledger.add_done(1, "stopped", {})
    assert ledger.wall_seconds == 2400
    assert ledger.gpu_hours == pytest.approx(2.0 * 720 / 3600 + 0.5 * 1800 / 3600)
    assert ledger.money == pytest.approx(3.0 * 720 / 3600)
    ledger.close()

    clock(90_000)  # killed meanwhile and resumed a day later: that day costs nothing
    resumed = Ledger(tmp_path)
    resumed.add_session({"seed": 1})
    clock(90_360)
    resumed.add_began(0)
    clock(91_080)
    resumed.add_done(0, "finished", RESULT)
    for again in (resumed, Ledger(tmp_path, read_only=True)):
        assert again.space == {"seed": 1}
        assert again.wall_seconds == 2400 + 1080
        assert again.gpu_hours == pytest.approx(2.0 * 1440 / 3600 + 0.5 * 1800 / 3600)
        assert again.money == pytest.approx(3.0 * 1440 / 3600)
        assert again.trials[0].gpu_hours == pytest.approx(2.0 * 1440 / 3600)
    row = trial_row(resumed.trials[0])
    assert (row["gpu_hours"], row["cost"]) == (pytest.approx(0.8), pytest.approx(1.2))
    assert trial_row(resumed.trials[1])["cost"] is None


def test_a_promoted_trial_is_unfinished_again(run: Path) -> None:
    ledger = Ledger(run)
    ledger.add_done(2, "stopped", {"rung": 1})
    assert ledger.unfinished() == []
    ledger.add_promoted(2)
    for again in (ledger, Ledger(run)):
        [trial] = again.unfinished()
        assert (trial.number, trial.promoted, trial.result) == (2, True, {})
        assert sorted(trial.epochs) == [1, 2]


def test_a_reader_changes_nothing(run: Path) -> None:
    with open(run / LEDGER, "a") as file:
        file.write('{"time": 1.0, "event": "ep')  # being written
    content = (run / LEDGER).read_bytes()
    assert list(Ledger(run, read_only=True).trials) == [0, 1, 2]
    assert (run / LEDGER).read_bytes() == content


def test_a_line_that_cannot_be_written_whole_leaves_nothing(run: Path) -> None:
    """A really full file system: the process may write no further than its limit."""
    ledger = Ledger(run)
    size = (run / LEDGER).stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, before[1]))
    try:
        with pytest.raises(LedgerError, match=r"ledger\.jsonl: cannot be written"):
            ledger.add_epoch(2, record(3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert (run / LEDGER).stat().st_size == size
    assert 3 not in ledger.trials[2].epochs
    assert ledger.add_epoch(2, record(3))
    assert Ledger(run).trials[2].epochs[3] == record(3)


def test_tables_are_written_seldom_and_at_the_end(run: Path) -> None:
    ledger, tables = Ledger(run), RunTables(run)
    tables.write(ledger)
    ledger.add_done(2, "finished", RESULT)
    tables.write(ledger)
    assert read_table(run, "trials")["status"].tolist() == ["finished", "failed", "running"]
    tables.write(ledger, now=True)
    assert read_table(run, "trials")["status"].tolist() == ["finished", "failed", "finished"]


def test_tables_of_a_run(run: Path) -> None:
    found = tables(run, Ledger(run))
    assert {name: list(table.columns) for name, table in found.items()} == {n: s.names for n, s in SCHEMAS.items()}
    trials = found["trials"].set_index("trial")
    assert trials["status"].tolist() == ["finished", "failed", "running"]
    for column in set(RESULT) - {"layers"}:
        assert trials.loc[0, column] == RESULT[column]
    assert trials.loc[0, ["method", "model", "dataset"]].tolist() == ["ST-3", "resnet8_w4", "digits"]
    assert trials["seed"].tolist() == [0, 1, 2]
    assert trials["workers"].tolist() == [2, 2, 2]
    assert [json.loads(params) for params in trials["params"]] == [{"seed": 0}, {"seed": 1}, {"seed": 2}]
    epochs = found["epochs"]
    assert epochs[["trial", "epoch"]].to_numpy().tolist() == [[t, e] for t in range(3) for e in (1, 2)]
    assert found["layers"][["trial", "layer"]].to_numpy().tolist() == [[0, "conv1"], [0, "fc"]]
    assert found["layers"]["threshold"].isna().tolist() == [True, False]


def test_a_failed_trial_is_a_row_of_nulls_and_its_error(run: Path) -> None:
    row = tables(run, Ledger(run))["trials"].set_index("trial").loc[1]
    assert row["error"] == "Diverged: the training loss is nan in epoch 3"
    assert (
        row[["val_top1", "test_top1", "gflops", "gflops_dense", "sparsity", "best_epoch", "wall_seconds"]].isna().all()
    )
    assert row["epochs"] == 2
    assert row["sparsity_target"] == 0.8


def test_an_invalid_trial_is_a_row_too(run: Path) -> None:
    """A point that passes the checks of a space but fails when resolved: the run continues and reports it."""
    ledger = Ledger(run)
    ledger.add_trial(3, {"optim.lr": -1.0}, {"optim": {"lr": -1.0}}, "", 0)
    ledger.add_done(3, "failed", {}, "Input should be greater than 0")
    row = tables(run, ledger)["trials"].set_index("trial").loc[3]
    assert row[["status", "error"]].tolist() == ["failed", "Input should be greater than 0"]
    assert row[["method", "model", "dataset", "seed", "sparsity_target"]].isna().all()
    assert json.loads(row["params"]) == {"optim.lr": -1.0}


def test_a_row_has_the_columns_of_the_table(run: Path) -> None:
    for trial in Ledger(run).trials.values():
        assert set(trial_row(trial)) <= set(SCHEMAS["trials"].names)


def test_objectives_count_only_when_finished_and_finite(run: Path) -> None:
    trials = Ledger(run).trials
    assert objective_values(trials[0], ["val_top1", "gflops"]) == [81.5, 0.004]
    assert objective_values(trials[1], ["val_top1"]) is None
    trials[2].result = RESULT
    assert objective_values(trials[2], ["val_top1"]) is None
    for bad in (float("nan"), float("inf"), None, "81"):
        assert finite_values({"val_top1": bad, "gflops": 1.0}, ["val_top1", "gflops"]) is None
    assert finite_values({"gflops": 1}, ["val_top1", "gflops"]) is None


def test_tables_that_cannot_be_written_are_written_later(run: Path) -> None:
    """A full disk ends nothing, since the ledger has all of it; at the end it raises."""
    ledger, tables = Ledger(run), RunTables(run / "gone")
    tables.write(ledger)
    with pytest.raises(OSError, match="No such file"):
        tables.write(ledger, now=True)
