"""Test that a compiled model trains to the same numbers, from one graph, and resumes bit by bit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from st3sweep import data
from st3sweep.training import checkpoint
from st3sweep.training.loop import fit
from st3sweep.training.saver import LAST
from st3sweep.training.world import World
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.errors import UserError
from st3sweep.util.storage.local import Local


def test_a_model_that_would_overrun_memory_is_an_error(
    tiny_trial: Callable[..., TrialSettings], digits: data.Splits, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"train.compile: not on a CPU for this model"):
        fit(tiny_trial(train={"compile": True}), World(), lambda _: False, tmp_path, digits)


@pytest.mark.slow  # a minute of compiling
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_compiled_training(tiny_trial: Callable[..., TrialSettings], digits: data.Splits, tmp_path: Path) -> None:
    def run(name: str, stop_after: int | None = None, **train: Any) -> list[float]:
        records: list[dict[str, Any]] = []

        def report(record: dict[str, Any]) -> bool:
            records.append(record)
            return record["epoch"] == stop_after

        spec = tiny_trial(model={"width": 16}, train={"epochs": 2, **train})
        fit(spec, World(), report, tmp_path / name, digits)
        return [record["train_loss"] for record in records]

    eager = run("eager")
    torch._dynamo.utils.counters.clear()
    compiled = run("compiled", compile=True)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert not torch._dynamo.utils.counters["graph_break"]
    assert compiled == pytest.approx(eager, rel=1e-3)
    assert compiled != eager, "it was not compiled"
    run("parts", compile=True, stop_after=1)
    run("parts", compile=True)
    whole, parts = (checkpoint.load(Local(tmp_path / name), LAST)["model"] for name in ("compiled", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
