"""A sweep without Ray, in which the test acts as the slots."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from st3sweep.reporting.json_events import JsonEvents
from st3sweep.runs.ledger import Trial
from st3sweep.space.loading import load_space
from st3sweep.space.space import Space
from st3sweep.sweep.state import Sweep

SPACE = """\
schema: st3sweep/v1
name: decisions
trial:
  model: {arch: cifar_resnet, depth: 8, width: 4}
  data: {dataset: digits, image_size: 8}
  train: {epochs: 4, batch_size: 64}
  sparsity: {method: st3}
search:
  sparsity.target: {float: [0.5, 0.98], scale: log1m}
  optim.lr: {float: [0.01, 1.0], scale: log}
searcher: {sampler: random}
"""
EPOCHS = 4


class Run:
    """A run in a folder, started and resumed by one program after another."""

    def __init__(self, folder: Path, more: str):
        (folder / "space.yaml").write_text(SPACE + more)
        self.space: Space = load_space(folder / "space.yaml")
        self.folder = folder / "run"
        self.folder.mkdir()
        self.events = io.StringIO()

    def program(self) -> Sweep:
        return Sweep(self.space, self.folder, JsonEvents(None, self.events))


def top1(trial: Trial) -> float:
    """Return an accuracy that falls with sparsity, and slightly with the seed."""
    return 100.0 - 20.0 * trial.spec["sparsity"]["target"] ** 4 - 0.1 * trial.spec["seed"]


def epoch(trial: Trial, number: int, **changes: Any) -> dict[str, Any]:
    gflops = 1.0 - trial.spec["sparsity"]["target"]
    return {
        "epoch": number, "progress": number / EPOCHS, "ramp_progress": min(1.0, number / 2), "sparsity": 0.5,
        "val_top1": top1(trial), "gflops": gflops, "gflops_final": gflops, "seconds": 1.0, **changes,
    }  # fmt: skip


def result(trial: Trial, **changes: Any) -> dict[str, Any]:
    found = {"status": "finished", "val_top1": top1(trial), "gflops": 1.0 - trial.spec["sparsity"]["target"]}
    return {**found, "sparsity": trial.spec["sparsity"]["target"], **changes}


def train(sweep: Sweep, trial: Trial) -> None:
    """Train the trial from its last epoch to the end, or until it is asked to stop."""
    for number in range(len(trial.epochs) + 1, EPOCHS + 1):
        sweep.record(trial.number, epoch(trial, number))
        if sweep.should_stop(trial.number):
            return sweep.record(trial.number, {"status": "stopped"})
    return sweep.record(trial.number, result(trial))


def finish(sweep: Sweep, at_most: int = 100) -> list[int]:
    """Train the remaining trials, at most ``at_most``; return their numbers in order."""
    numbers = []
    while len(numbers) < at_most and (trial := sweep.next_trial()):
        numbers.append(trial.number)
        train(sweep, trial)
    return numbers


def statuses(sweep: Sweep) -> list[str]:
    return [trial.status for trial in sweep.ledger.trials.values()]
