"""Test that optuna-dashboard reads the study of a run: start it and query its API."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from st3sweep.reporting.json_events import JsonEvents
from st3sweep.space.loading import load_space
from st3sweep.sweep.state import Sweep

pytest.importorskip("optuna_dashboard")

SPACE = """\
schema: st3sweep/v1
name: shown
trial:
  model: {arch: cifar_resnet, depth: 8, width: 4}
  data: {dataset: digits, image_size: 8}
  train: {epochs: 2, batch_size: 64}
  sparsity: {method: st3}
search:
  sparsity.target: {float: [0.5, 0.98], scale: log1m}
  optim.lr: {float: [0.01, 1.0], scale: log}
searcher: {sampler: random}
budget: {trials: 4}
"""


@contextmanager
def dashboard(journal: Path) -> Iterator[str]:
    """Start optuna-dashboard on the journal, on this machine only; yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = "from optuna_dashboard._cli import main; main()"
    command = [sys.executable, "-c", start, str(journal), "--host", "127.0.0.1", "--port", str(port), "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            running.terminate()


def asked(address: str) -> Any:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.URLError:
            assert time.monotonic() < deadline, "it did not start"
            time.sleep(0.2)


def test_the_dashboard_shows_every_trial_with_its_objectives(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    (tmp_path / "run").mkdir()
    sweep = Sweep(load_space(tmp_path / "space.yaml"), tmp_path / "run", JsonEvents(4, open(tmp_path / "log", "w")))  # noqa: SIM115
    ends: list[dict[str, Any]] = [
        {"status": "finished", "val_top1": 90.0, "gflops": 0.25, "sparsity": 0.9},
        {"status": "failed", "error": "Diverged: the training loss is nan in epoch 1"},
        {"status": "finished", "val_top1": 80.0, "gflops": 0.125, "sparsity": 0.95},
    ]
    for end in ends:
        trial = sweep.next_trial()
        assert trial is not None
        sweep.record(trial.number, end)
    assert sweep.next_trial() is not None  # and this one runs
    with dashboard(tmp_path / "run" / "study.journal") as address:
        [study] = asked(f"{address}/api/studies")["study_summaries"]
        assert study["study_name"] == "shown"
        shown = asked(f"{address}/api/studies/{study['study_id']}")
    assert shown["objective_names"] == ["val_top1", "gflops"], list(shown)
    assert shown["directions"] == ["maximize", "minimize"]
    assert [trial["state"] for trial in shown["trials"]] == ["Complete", "Fail", "Complete", "Running"]
    assert shown["trials"][2]["values"] == [80.0, 0.125]
    assert {parameter["name"] for parameter in shown["trials"][0]["params"]} == {"-log(1-sparsity.target)", "optim.lr"}
