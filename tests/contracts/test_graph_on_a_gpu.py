"""Contract of every method on a GPU: recorded steps equal eager ones bit by bit, resume too, and nothing waits."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from compare import timeless
from settings import METHODS

from st3sweep import data
from st3sweep.training import loop
from st3sweep.training.graph import EAGER_FIRST, Steps
from st3sweep.training.loop import fit, start
from st3sweep.training.step import TrainingStep
from st3sweep.training.world import World
from st3sweep.trial.settings import TrialSettings

pytestmark = pytest.mark.gpu
TinyTrial = Callable[..., TrialSettings]
every_method = pytest.mark.parametrize("sparsity", [sparsity for _, sparsity in METHODS], ids=[n for n, _ in METHODS])
EAGER = {"probmask"}


def trained(spec: TrialSettings, folder: Path, splits: data.Splits, until: int | None = None) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []

    def report(record: dict[str, Any]) -> bool:
        records.append(timeless(record))
        return record["epoch"] == until

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "train.graph")
        fit(spec, World(device=torch.device("cuda")), report, folder, splits)
    return records


def spec_of(tiny_trial: TinyTrial, sparsity: dict[str, Any], how: str) -> TrialSettings:
    train = {"epochs": 2, "batch_size": 16, "finetune_epochs": 1, "graph": how, "deterministic": True}
    model = {"arch": "wide_resnet", "depth": 10, "width": 1, "dropout": 0.3}
    return tiny_trial(model=model, sparsity=sparsity, train=train)


@every_method
def test_recorded_steps_train_as_eager_ones_and_resume(
    tiny_trial: TinyTrial,
    sparsity: dict[str, Any],
    digits: data.Splits,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[Steps] = []

    class Watched(Steps):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            taken.append(self)

    monkeypatch.setattr(loop, "Steps", Watched)
    eager = trained(spec_of(tiny_trial, sparsity, "off"), tmp_path / "eager", digits)
    recorded = spec_of(tiny_trial, sparsity, "auto")
    assert trained(recorded, tmp_path / "recorded", digits) == eager
    assert [steps.replayed > 0 for steps in taken] == [False, True]
    for epoch in (1, 2):
        trained(recorded, tmp_path / "parts", digits, until=epoch)
    assert trained(recorded, tmp_path / "parts", digits) == eager


@every_method
def test_a_replayed_step_waits_for_nothing(
    tiny_trial: TinyTrial, sparsity: dict[str, Any], digits: data.Splits
) -> None:
    spec, world = tiny_trial(sparsity=sparsity, train={"precision": "bf16"}), World(device=torch.device("cuda"))
    with torch.cuda.stream(torch.cuda.Stream()):
        steps = Steps(TrainingStep(start(spec, world, digits), spec, world, digits), spec, world)
        if sparsity["method"] in EAGER:
            pytest.skip("its steps are never recorded")
        steps.step.begin_epoch(0)
        (inputs, *_) = steps.step.batches.inputs(0, 0)
        for _ in range(EAGER_FIRST + 3):
            steps.step.state.optimizer.set_rates(0.1, steps.step.state.optimizer.param_groups[0]["weight_decay"])
            steps.take(inputs, 1.0)
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(3):
                steps.step.state.optimizer.set_rates(0.05, steps.step.state.optimizer.param_groups[0]["weight_decay"])
                steps.take(inputs, 1.0)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert steps.recordings == 1
