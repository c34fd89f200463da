"""Whole sweeps through Ray, as a person runs them: real programs, really killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import psutil
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from PIL import Image
from ray.cluster_utils import Cluster

from st3sweep.results import read_table

PROJECT = Path(__file__).parents[2]
PATIENCE_SECONDS = 400.0  # a slot starts in half a minute on an idle machine, and in minutes on a loaded one

SPACE = """\
schema: st3sweep/v1
name: faults
trial:
  model: {arch: cifar_resnet, depth: 8, width: 4}
  data: {dataset: digits, image_size: 8, train_limit: 256}
  train: {epochs: 40, batch_size: 64}
  sparsity: {method: st3, target: 0.8}
search:
  optim.lr: {choice: [0.1, 1e30, 0.05, 0.2]}  # the second diverges
searcher: {sampler: grid}
resources: {slots: 1}
"""


@contextmanager
def program(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """``python -m st3sweep ...``; whatever it started is gone when the block ends."""
    command = [sys.executable, "-m", "st3sweep", *arguments]
    started = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield started
    finally:
        family = descendants(started.pid)
        started.kill()
        started.wait()
        for process in family:
            if process.is_running():
                process.kill()


def descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    ledger = run / "ledger.jsonl"
    lines = ledger.read_bytes().split(b"\n")[:-1] if ledger.exists() else []
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def wait_until(condition: Callable[[], Any], running: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert running.poll() is None, f"ended early:\n{running.communicate()[0]}"
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def in_mid_trial(run: Path, number: int) -> bool:
    """Some epochs of the trial have ended, the trial has not."""
    epochs = sum(event["trial"] == number for event in events(run, "epoch"))
    return 3 <= epochs < 30


def undisturbed(trial: dict[str, Any], folder: Path) -> list[float]:
    """Validation accuracies of the same trial, trained in one go without Ray, in a process with one thread."""
    config = folder / "trial.yaml"
    folder.mkdir()
    config.write_text(json.dumps(trial["spec"]))
    subprocess.run(
        [sys.executable, "-m", "st3sweep", "train", str(config), "--out", str(folder / "out"), "--device", "cpu"],
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return [event["record"]["val_top1"] for event in events(folder / "out", "epoch")]


def test_kills_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(SPACE)
    run = tmp_path / "runs" / "faults"
    with program("run", str(space), "--storage", str(tmp_path / "runs")) as first:
        wait_until(lambda: in_mid_trial(run, 2), first)
        family = descendants(first.pid)
        first.send_signal(signal.SIGKILL)
        first.wait()
        # Its workers go with the program, so that none of them writes into the run that is resumed.
        _, alive = psutil.wait_procs([p for p in family if "RayTrainWorker" in _name(p)], timeout=60)
        assert not alive
    before = (run / "ledger.jsonl").read_bytes()
    assert [event["trial"] for event in events(run, "done")] == [0, 1]

    with program("resume", str(run)) as second:
        wait_until(lambda: in_mid_trial(run, 3), second)
        [worker] = [p for p in descendants(second.pid) if "RayTrainWorker" in _name(p)]
        worker.kill()
        output = second.communicate(timeout=PATIENCE_SECONDS)[0]
    assert second.returncode == 4, output  # one trial failed, as it should
    assert "Pareto front" in output
    assert "Traceback" not in output

    # What was written stayed; each trial was chosen once and ended once.
    torn = before.rfind(b"\n") + 1
    assert (run / "ledger.jsonl").read_bytes().startswith(before[:torn])
    assert [event["trial"] for event in events(run, "trial")] == [0, 1, 2, 3]
    done = {event["trial"]: event for event in events(run, "done")}
    assert len(events(run, "done")) == len(done) == 4
    assert {number: event["status"] for number, event in done.items()} == {
        0: "finished", 1: "failed", 2: "finished", 3: "finished",
    }  # fmt: skip
    assert "Diverged: the training loss is nan in epoch" in done[1]["error"]

    # The trials that were interrupted have every epoch once, with the numbers of a run that was left alone.
    trials = {event["trial"]: event for event in events(run, "trial")}
    for number in (2, 3):
        records = [event["record"] for event in events(run, "epoch") if event["trial"] == number]
        assert [record["epoch"] for record in records] == list(range(1, 41))
        assert [record["val_top1"] for record in records] == undisturbed(trials[number], tmp_path / str(number))

    # Tables and study say the same.
    table = read_table(run, "trials").set_index("trial")
    assert table["status"].to_dict() == {number: event["status"] for number, event in done.items()}
    assert np.isnan(table.loc[1, "val_top1"])
    assert table.loc[2, "val_top1"] == done[2]["result"]["val_top1"]
    assert len(read_table(run, "epochs").query("trial == 3")) == 40
    study = optuna.load_study(
        study_name="faults", storage=JournalStorage(JournalFileBackend(str(run / "study.journal")))
    )
    states = [trial.state for trial in study.get_trials()]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    assert study.get_trials()[2].values == [done[2]["result"]["val_top1"], done[2]["result"]["gflops"]]


def _name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Pieces of scikit-learn's two photographs as JPEG files: 30 to train and 8 to test of each."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    for name, picture in zip(("temple", "flower"), load_sample_images().images, strict=True):
        for part, count in (("train", 30), ("val", 8)):
            folder = tmp_path / "photographs" / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                top, left = rng.integers(0, picture.shape[0] - 128), rng.integers(0, picture.shape[1] - 128)
                Image.fromarray(picture[top : top + 128, left : left + 128]).save(folder / f"{index:03d}.jpg")
    return tmp_path / "photographs"


@pytest.fixture
def cluster() -> Iterator[str]:
    """The address of a Ray cluster of two nodes with one core each, on this machine."""
    two_nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    two_nodes.add_node(num_cpus=1)
    yield two_nodes.address
    two_nodes.shutdown()


def test_the_mobilenet_space_on_jpegs_with_two_workers_on_a_cluster(
    photographs: Path, cluster: str, tmp_path: Path
) -> None:
    settings = {
        "data.root": photographs, "data.validation": 12, "data.image_size": 64,
        "train.epochs": 2, "train.batch_size": 16, "budget.trials": 2,
        "resources.workers": 2, "resources.cpus_per_worker": 1, "resources.gpus_per_worker": 0,
    }  # fmt: skip
    overrides = [word for path, value in settings.items() for word in ("--set", f"{path}={value}")]
    where = ["--storage", str(tmp_path / "runs"), "--name", "jpegs", "--address", cluster]
    with program("run", "search_spaces/mobilenet.yaml", *overrides, *where) as running:
        output = running.communicate(timeout=PATIENCE_SECONDS)[0]
    assert running.returncode == 0, output
    run = tmp_path / "runs" / "jpegs"
    trials = read_table(run, "trials")
    assert trials["status"].tolist() == ["finished", "finished"]
    assert trials["workers"].tolist() == [2, 2]
    assert trials["model"].unique().tolist() == ["mobilenet_v1"]
    assert np.allclose(trials["sparsity"], trials["sparsity_target"], atol=1e-5)
    assert trials["test_top1"].between(0, 100).all()
    layers = read_table(run, "layers").query("trial == 0")
    assert layers["macs_dense"].sum() / 1e9 == pytest.approx(trials["gflops_dense"][0])
    assert layers["macs"].sum() / 1e9 == pytest.approx(trials["gflops"][0])
    assert (run / "front.png").stat().st_size > 10_000
