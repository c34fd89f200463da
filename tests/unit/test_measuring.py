"""Test measured latency: an event of the ledger, columns of the tables, predictions for the search, what cannot be."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from driven_sweep import SPACE, Run, finish, result

from st3sweep.commands import measure as command
from st3sweep.commands.doctor import latency_check
from st3sweep.commands.measure import measure
from st3sweep.commands.plan import plan_text
from st3sweep.commands.train import train_one
from st3sweep.export import calibration, measuring
from st3sweep.export.timing import Timed
from st3sweep.networks.latency import FEATURES, Predictor
from st3sweep.runs.folder import STOP_REQUEST, write_resolved
from st3sweep.runs.ledger import Ledger
from st3sweep.runs.tables import read_table
from st3sweep.space.loading import load_space
from st3sweep.sweep.measuring import unmeasured
from st3sweep.sweep.status import read_status
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.errors import SpecError, UserError

needs_compiler = pytest.mark.skipif(not shutil.which(os.environ.get("CC", "cc")), reason="needs a C compiler")
LATENCY = "objectives: [{metric: val_top1, goal: max}, {metric: latency_ms, goal: min}]\n"
LAYERS = [{"layer": "conv1", "position": 0, "shape": "8x4x3x3", "numel": 288, "density": 0.25, "macs_dense": 28800}]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a calibration of this machine out of the tests, and theirs out of it; the engine stays compiled."""
    monkeypatch.setattr(calibration, "_path", lambda: tmp_path_factory.getbasetemp() / "none" / "latency.json")


@pytest.fixture
def calibrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Predictor:
    """Calibrate: 1 ns for each live multiply-accumulate of a convolution, 0.1 ms for a network."""
    times = dict.fromkeys(FEATURES, 0.0) | {"sparse": 1e-6, "networks": 0.1}
    made = Predictor(times, error=0.1, largest=0.2, held_out=4, disturbed=False)
    (tmp_path / "latency.json").write_text(json.dumps(asdict(made)))
    monkeypatch.setattr(calibration, "_path", lambda: tmp_path / "latency.json")
    return made


@pytest.fixture(scope="module")
def trained(tiny_trial: Callable[..., TrialSettings], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of one trial, with its weights."""
    folder = tmp_path_factory.mktemp("trained")
    train_one(tiny_trial(train={"epochs": 2}), folder, "cpu", lambda _: None)
    return folder


def test_an_event_becomes_columns_and_replaces_the_row(run_of: Callable[[str], Run]) -> None:
    run = run_of("budget: {trials: 3}\n")
    sweep = run.program()
    finish(sweep)
    sweep.close()
    assert "latency_ms" not in read_table(run.folder, "trials")
    layers = read_table(run.folder, "layers")
    ledger = Ledger(run.folder)
    spent = ledger.wall_seconds
    ledger.add_measured(1, {"latency_ms": 0.25, "latency_disturbed": True, "size_mb": 0.5})
    assert ledger.wall_seconds == spent  # days later perhaps: no time of the run
    ledger.close()
    again = run.program()  # reads the event from the ledger, and writes what follows from it
    again.close()
    table = read_table(run.folder, "trials")
    assert list(table["trial"]) == [0, 1, 2]
    assert table["latency_ms"].tolist()[1] == 0.25
    assert table["latency_ms"].isna().tolist() == [True, False, True]
    assert table["latency_disturbed"].tolist()[1] is True
    assert len(read_table(run.folder, "layers")) == len(layers)
    assert [trial.number for trial in unmeasured(Ledger(run.folder, read_only=True))] == [0, 2]


def test_the_search_is_told_the_prediction(run_of: Callable[[str], Run], calibrated: Predictor) -> None:
    run = run_of(f"{LATENCY}budget: {{trials: 2}}\n")
    sweep = run.program()
    for density in (0.25, 0.5):
        trial = sweep.next_trial()
        assert trial is not None
        sweep.record(trial.number, result(trial, layers=[{**LAYERS[0], "density": density * 0.5}]))
    told = [trial.values[1] for trial in sweep.searcher.study.trials]
    assert told == pytest.approx([0.1 + 28800 * 0.125e-6, 0.1 + 28800 * 0.25e-6])
    found = sweep.ledger.trials[0].result
    assert found["latency_ms"] == found["latency_predicted_ms"] == told[0]
    assert sweep.to_measure() == 2
    assert sweep.outcome().end == "interrupted"
    sweep.close()
    write_resolved(run.folder, run.space.document.data)
    status = read_status(run.folder)
    assert status.state == "interrupted"
    assert "2 trials are not measured yet" in status.lines("run")[0]
    measured = run.program()
    measured.ledger.add_measured(0, {"latency_ms": 5.0, "latency_disturbed": False})
    measured.ledger.add_measured(1, {"latency_ms": None, "latency_disturbed": None}, "SiLU")
    assert measured.outcome().end == "complete"
    assert [trial.values[1] for trial in measured.searcher.study.trials] == told  # the prediction stays
    measured.close()
    row = read_table(run.folder, "trials").iloc[0]
    assert (row["latency_ms"], row["latency_predicted_ms"]) == (5.0, pytest.approx(told[0]))


def test_a_request_to_stop_ends_the_measuring(run_of: Callable[[str], Run]) -> None:
    run = run_of("budget: {trials: 2}\nmeasure: {latency: true}\n")
    sweep = run.program()
    finish(sweep)
    (run.folder / STOP_REQUEST).write_text("now")
    sweep.measure()  # there are no weights: nothing is measured, but it was tried
    assert sweep.to_measure() == 1
    assert (sweep.outcome().end, sweep.outcome().why) == ("interrupted", "1 trial is not measured yet")
    sweep.measure()
    assert sweep.outcome().end == "complete"
    sweep.close()
    events = [json.loads(line) for line in run.events.getvalue().splitlines()]
    assert [event["trial"] for event in events if event["event"] == "measured"] == [0, 1]
    (note,) = (event["text"] for event in events if event["event"] == "note")  # the reason once, though both lack them
    assert note.startswith("trial 0: latency not measured: ")


def test_without_a_prediction_no_trial_fails(run_of: Callable[[str], Run]) -> None:
    sweep = run_of(f"{LATENCY}budget: {{trials: 1}}\n").program()
    trial = sweep.next_trial()
    assert trial is not None
    sweep.record(trial.number, result(trial))
    assert trial.status == "finished"
    assert "latency_ms" not in trial.result
    sweep.close()


@needs_compiler
def test_measure_a_trained_trial(trained: Path) -> None:
    (row,) = measure(trained)
    assert 0.001 < row["latency_ms"] < 10.0
    assert row["latency_disturbed"] in (True, False)
    table = read_table(trained, "trials")
    assert table["latency_ms"].tolist() == [row["latency_ms"]]
    from st3sweep.commands.export import ExportConfig, write_model

    packed = write_model(trained, 0, None, ExportConfig("packed"))
    assert row["size_mb"] == packed.path.stat().st_size / 1e6
    assert measure(trained) == []
    assert len(measure(trained, again=True)) == 1
    with pytest.raises(UserError, match="trial 7 cannot be measured: there is no such trial"):
        measure(trained, [7])


def test_what_the_engine_lacks_empties_the_column(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(command, "say", said.append)
    monkeypatch.setattr(measuring, "fold_batch_norms", lambda _: _raise(UserError("--format sparse: lacks SiLU")))
    (row,) = measure(trained, [0], again=True)
    assert row["latency_ms"] is None
    assert row["latency_disturbed"] is None
    assert row["size_mb"] > 0
    assert said == ["trial 0: latency not measured: lacks SiLU"]


def test_removed_weights_leave_the_prediction(trained: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    for path in copy.glob("trials/*/best*"):
        path.unlink()
    ledger = Ledger(copy)
    ledger.add_measured(0, {"latency_ms": 0.75, "latency_predicted_ms": 0.75})
    ledger.close()
    (row,) = measure(copy, [0], again=True)
    assert (row["latency_ms"], row["latency_disturbed"]) == (0.75, None)


def test_a_space_with_latency_needs_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.delenv("ST3SWEEP_SPARSE_ENGINE", raising=False)
    said: list[str] = []
    monkeypatch.setattr(command, "say", said.append)
    (tmp_path / "a.yaml").write_text(f"{SPACE}measure: {{latency: true}}\nbudget: {{trials: 1}}\n")
    monkeypatch.setattr(calibration, "_path", _path)
    command.prepare(load_space(tmp_path / "a.yaml"))
    assert "no C compiler found" in said[-1]
    assert "stays empty" in said[-1]
    (tmp_path / "b.yaml").write_text(f"{SPACE}{LATENCY}budget: {{trials: 1}}\n")
    with pytest.raises(SpecError, match=r"b\.yaml:\d+.*latency_ms.*no C compiler found"):
        command.prepare(load_space(tmp_path / "b.yaml"))


def test_settings_that_contradict(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"{SPACE}{LATENCY}measure: {{latency: false}}\nbudget: {{trials: 1}}\n")
    with pytest.raises(SpecError, match=r"measure\.latency.*is false, but latency_ms is an objective"):
        load_space(tmp_path / "a.yaml")


_path = calibration._path


def _raise(error: Exception) -> Any:
    raise error


@pytest.mark.parametrize(
    ("waited", "others", "disturbed"),
    [(1.05, 0.05, False), (1.2, 0.0, True), (1.0, 0.2, True)],  # wall over CPU time; share of the cores
)
def test_when_a_measurement_is_disturbed(waited: float, others: float, disturbed: bool) -> None:
    assert Timed(1.0, waited, others).disturbed is disturbed


@needs_compiler
def test_the_doctor_says_how_well_latency_is_predicted(calibrated: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        latency_check().found == "predicted: median error 10 %, nine of ten below 20 %, on 4 random networks left out"
    )
    monkeypatch.setattr(calibration, "predictor", lambda: None)
    assert latency_check().found.startswith("not calibrated: doctor --calibrate")
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.delenv("ST3SWEEP_SPARSE_ENGINE", raising=False)
    check = latency_check()
    assert (check.state, check.found.partition(":")[0]) == ("warn", "cannot be measured")


def test_the_plan_says_what_is_measured(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"{SPACE}{LATENCY}budget: {{trials: 1}}\n")
    lines = " ".join(plan_text(load_space(tmp_path / "a.yaml"), None).split())
    assert "measured latency on this machine: predicted when a trial ends; measured at the end of the sweep" in lines
    assert "size of the packed file" not in lines
