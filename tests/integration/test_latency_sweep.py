"""Test a real sweep with latency as an objective: interrupted while it measures, resumed, and picked from by time."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from programs import PATIENCE_SECONDS, ended, events, program

from st3sweep.commands.opened_run import Run
from st3sweep.export.calibration import calibrate, predictor
from st3sweep.runs.tables import read_table

SPACE = "search_spaces/latency_digits.yaml"
SMALL = {"train.epochs": 2, "budget.trials": 5, "searcher": "{sampler: random}"}


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which(os.environ.get("CC", "cc")), reason="needs a C compiler")
def test_a_sweep_over_time_interrupted_while_it_measures(tmp_path: Path) -> None:
    if predictor() is None:
        calibrate()  # so that the program's patience is for its sweep
    overrides = [word for path, value in SMALL.items() for word in ("--set", f"{path}={value}")]
    run = tmp_path / "runs" / "latency_digits"
    with program("run", SPACE, *overrides, "--storage", str(tmp_path / "runs")) as running:
        until = time.monotonic() + PATIENCE_SECONDS
        while not events(run, "measured") and time.monotonic() < until:
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        code, output = ended(running)
    first = events(run, "measured")
    assert 1 <= len(first) < 5, output
    assert code == 130, output
    assert "not measured yet" in output
    with program("resume", str(run)) as running:
        code, output = ended(running)
    assert code == 0, output
    measured = events(run, "measured")
    assert sorted(event["trial"] for event in measured) == [0, 1, 2, 3, 4]
    assert measured[: len(first)] == first
    table = read_table(run, "trials")
    by_trial = {event["trial"]: event["values"] for event in measured}
    assert table["latency_ms"].tolist() == [by_trial[number]["latency_ms"] for number in range(5)]
    told = [trial["result"]["latency_predicted_ms"] for trial in sorted(events(run, "done"), key=lambda e: e["trial"])]
    assert table["latency_predicted_ms"].tolist() == told
    assert (table["size_mb"] > 0.01).all()
    fastest = table["latency_ms"].min()
    assert Run(run).pick(max_latency=fastest)["latency_ms"] == fastest
