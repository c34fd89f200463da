"""The Python examples of docs/methods.md and docs/deploy.md do what the pages say."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import st3sweep
from st3sweep.commands.export import ExportConfig, write_model
from st3sweep.export.from_run import load_model
from st3sweep.trial.settings import TrialSettings
from st3sweep.trial.sparsity import MethodConfig

DOCS = Path(__file__).parents[2] / "docs"
TRIAL: dict[str, Any] = {
    "model": {"arch": "cifar_resnet", "depth": 8, "width": 4},
    "data": {"dataset": "digits", "image_size": 8, "train_limit": 200},
    "train": {"epochs": 1, "batch_size": 50},
    "sparsity": {"method": "st3", "target": 0.75, "ramp": {"start": 0, "end": 0.5}},
}


def examples(page: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    known = dict(MethodConfig.registered)
    yield tmp_path
    sys.modules.pop("oneshot", None)
    MethodConfig.registered.clear()
    MethodConfig.registered.update(known)
    TrialSettings.model_rebuild(force=True)


def test_the_method_of_the_page_trains(folder: Path) -> None:
    method, _ = examples("methods.md")
    (folder / "oneshot.py").write_text(method)
    trial = {**TRIAL, "sparsity": {"method": "oneshot", "target": 0.75}}
    trained = st3sweep.train(trial, plugins=["oneshot"], progress=False)
    assert trained.status == "finished"
    weights = st3sweep.prunable(trained.model)
    assert {name: float((w == 0).float().mean()) for name, w in weights.items()} == pytest.approx(
        dict.fromkeys(weights, 0.75), abs=0.01
    )


def test_a_method_by_groups_is_one_by_layers() -> None:
    names: dict[str, Any] = {}
    exec(examples("methods.md")[1], names)
    weights = [torch.randn(4, 3, 3, 3), torch.randn(5, 8)]
    sparse = names["Halved"]().sparsify(weights)
    for weight, halved in zip(weights, sparse, strict=True):
        kept = weight.abs() > weight.abs().median()
        assert torch.equal(halved, weight * kept)


def test_the_page_loads_an_exported_model_without_the_package_s_loader(folder: Path) -> None:
    st3sweep.train(TRIAL, folder=folder / "run", progress=False)
    write_model(folder / "run", 0, folder / "digits.safetensors", ExportConfig())
    (page,) = examples("deploy.md")
    names: dict[str, Any] = {}
    exec(page, names)
    with torch.no_grad():
        expected = load_model(folder / "run", 0)((names["pixels"] / 255 - names["mean"]) / names["std"])
    torch.testing.assert_close(names["logits"], expected, rtol=0, atol=0)
    assert float((names["model"].conv1.weight == 0).float().mean()) > 0
