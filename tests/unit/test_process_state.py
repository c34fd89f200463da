"""Test that global state changed by one trial is reset before the next."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compare import timeless

from st3sweep import data
from st3sweep.training.loop import fit
from st3sweep.training.process_state import ProcessState
from st3sweep.training.world import World
from st3sweep.trial.recipes import overlay
from st3sweep.trial.settings import TrialSettings
from tests.conftest import TINY

PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own() -> Iterator[None]:
    state = ProcessState.capture()
    yield
    state.restore()


def settings() -> dict[str, Any]:
    """Return all global settings that a trial may change and that would affect the next one."""
    return {
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "device": torch.empty(0).device,
        "precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "anomaly": torch.is_anomaly_enabled(),
        "grad": torch.is_grad_enabled(),
        "benchmark": torch.backends.cudnn.benchmark,
        "tf32": torch.backends.cudnn.allow_tf32,
        "filters": list(warnings.filters),
        "denormal": (torch.tensor([1e-39], device="cpu") * 1.0).item(),
        "draws": (random.random(), np.random.rand(), torch.rand(1, device="cpu").item()),
    }


def make_a_mess(folder: Path) -> None:
    os.environ["OF_A_TRIAL"] = "1"
    os.environ.pop("HOME", None)
    os.chdir(folder)
    torch.set_num_threads(2)
    torch.set_default_dtype(torch.float64)
    torch.set_float32_matmul_precision("medium")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.autograd.set_detect_anomaly(True)
    torch.set_grad_enabled(False)
    torch.set_flush_denormal(True)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False
    warnings.simplefilter("error")
    random.seed(17), np.random.seed(17), torch.manual_seed(17)
    torch.set_default_device("meta")


@pytest.mark.long
def test_every_setting_is_restored(tmp_path: Path) -> None:
    ProcessState.capture().restore()  # imports modules that change settings on their first import
    state = ProcessState.capture()
    state.restore()
    before = settings()
    make_a_mess(tmp_path)
    after_the_mess = settings()
    assert all(before[name] != after_the_mess[name] for name in before), "every setting must have changed"
    torch.set_default_dtype(torch.float64)
    state.restore()
    assert settings() == before


@pytest.mark.long
def test_a_trial_after_a_mess_has_the_same_results(
    tiny_trial: Callable[..., TrialSettings], digits: data.Splits, tmp_path: Path
) -> None:
    spec = tiny_trial(model={"arch": "wide_resnet", "depth": 10, "width": 1, "dropout": 0.3})
    state = ProcessState.capture()
    first = fit(spec, World(), lambda _: False, tmp_path / "first", digits)
    make_a_mess(tmp_path)
    state.restore()
    assert timeless(fit(spec, World(), lambda _: False, tmp_path / "second", digits)) == timeless(first)


@pytest.mark.long
def test_a_worker_does_not_import_the_compiler(tmp_path: Path) -> None:
    """It takes seconds, as sympy does, and parts of torch import them unasked: the meta device, on which a model's cost
    would be counted, is one."""
    code = """
import json
import sys
from pathlib import Path
from st3sweep.training.components import register_components
from st3sweep.training.loop import fit
from st3sweep.training.process_state import ProcessState
from st3sweep.training.world import World
from st3sweep.trial.recipes import resolve

register_components()
clean = ProcessState.capture()
clean.restore()
fit(resolve(json.loads(sys.argv[2])), World(), lambda record: False, Path(sys.argv[1]))
clean.restore()
print({"torch._dynamo", "torch._inductor", "sympy"} & set(sys.modules))
"""
    command = [sys.executable, "-c", code, str(tmp_path), json.dumps(overlay(TINY, {"train": {"epochs": 1}}))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT)
    assert (done.stdout, done.returncode) == ("set()\n", 0), done.stderr
