"""Test that the exported model is the evaluated one for all methods. Methods are added in ``settings.py``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import safetensors.torch
import torch
from settings import METHODS
from torch import Tensor, nn

from st3sweep import data
from st3sweep.commands.train import train_one
from st3sweep.data.batches import eval_batches
from st3sweep.export.from_run import export
from st3sweep.export.model_file import load_exported, save
from st3sweep.networks import build_model
from st3sweep.networks.flops import layer_costs, macs_per_weight
from st3sweep.runs.tables import read_table
from st3sweep.sparse.method import Method, harden, prunable, sparse_weights
from st3sweep.sparse.methods import build_method
from st3sweep.sparse.methods.fixed_mask import FixedMask
from st3sweep.training import checkpoint
from st3sweep.training.evaluate import evaluate
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.storage.local import Local

TinyTrial = Callable[..., TrialSettings]


class Run(NamedTuple):
    """A finished trial, and the file of its exported model."""

    spec: TrialSettings
    folder: Path
    file: Path

    @property
    def best(self) -> Path:
        return self.folder / "trials" / "0000" / "best.ckpt"

    def row(self) -> dict[str, Any]:
        return read_table(self.folder, "trials").iloc[0].to_dict()


@pytest.fixture(scope="module", params=[sparsity for _, sparsity in METHODS], ids=[name for name, _ in METHODS])
def run(request: pytest.FixtureRequest, tiny_trial: TinyTrial, tmp_path_factory: pytest.TempPathFactory) -> Run:
    spec, folder = tiny_trial(sparsity=request.param), tmp_path_factory.mktemp("run")
    assert train_one(spec, folder, "cpu", lambda _: None) == "finished"
    save(folder / "model.safetensors", *export(folder, 0))
    return Run(spec, folder, folder / "model.safetensors")


def dense_network(run: Run) -> tuple[nn.Module, list[Tensor], Method]:
    """Return the best epoch's model with its dense weights θ, the weights, and the method."""
    saved = checkpoint.load(Local(run.best.parent), run.best.name)
    model = build_model(run.spec.model, 10, 1)
    model.load_state_dict(saved["model"])
    weights: list[Tensor] = list(prunable(model).values())
    method = build_method(run.spec, weights, macs_per_weight(layer_costs(model, (1, 8, 8))))
    method.load_state_dict(saved["method"])
    return model.eval(), weights, method


def batches(images: data.images.Images, splits: data.Splits) -> Any:
    return eval_batches(images, splits, batch_size=512, rank=0, size=1, device="cpu")


@torch.no_grad()
def test_the_exported_model_is_the_evaluated_one(run: Run, digits: data.Splits) -> None:
    assert digits.test is not None
    x, _ = next(iter(batches(digits.test, digits)))
    model, weights, method = dense_network(run)
    with sparse_weights(weights, method):
        logits = model(x)
    exported, metadata = load_exported(run.file)
    assert not exported.training
    assert torch.equal(exported(x), logits)
    for images, name in ((digits.validation, "val_top1"), (digits.test, "test_top1")):
        assert evaluate(exported, [], Method(), batches(images, digits))[1] == run.row()[name] == metadata[name]


def test_it_loads_into_the_plain_model_without_unpickling(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.load", None)
    monkeypatch.setattr("pickle.Unpickler", None)
    state = safetensors.torch.load_file(run.file)
    plain = build_model(run.spec.model, 10, 1)
    assert [(n, t.shape, t.dtype) for n, t in plain.state_dict().items()] == [
        (n, state[n].shape, state[n].dtype) for n in plain.state_dict()
    ]
    plain.load_state_dict(state, strict=True)
    loaded, _ = load_exported(run.file)
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())


def test_its_zeros_are_those_reported(run: Run) -> None:
    state = safetensors.torch.load_file(run.file)
    layers = read_table(run.folder, "layers")
    zeros = 0
    for layer in layers.itertuples():
        weight = state[f"{layer.layer}.weight"]
        assert torch.count_nonzero(weight).item() / weight.numel() == layer.density
        zeros += int((weight == 0).sum())
    assert zeros / layers["numel"].sum() == pytest.approx(run.row()["sparsity"], rel=1e-12, abs=1e-12)
    assert (zeros > 0) == (run.spec.sparsity.method != "dense")
    _, metadata = load_exported(run.file)
    assert (metadata["sparsity"], metadata["gflops"]) == (run.row()["sparsity"], run.row()["gflops"])


def test_a_hardened_model_is_exported_unchanged(run: Run, tmp_path: Path) -> None:
    """The best epoch's model is hardened where that is an epoch of fine-tuning."""
    model, weights, method = dense_network(run)
    harden(weights, method)
    (tmp_path / "trials" / "0000").mkdir(parents=True)
    (tmp_path / "ledger.jsonl").write_bytes((run.folder / "ledger.jsonl").read_bytes())
    fixed = {"model": model.state_dict(), "method": FixedMask(weights, method.scheduled_sparsity).state_dict()}
    hardened = {**checkpoint.load(Local(run.best.parent), run.best.name), **fixed}
    checkpoint.save(Local(tmp_path / "trials" / "0000"), "best.ckpt", hardened, method)
    save(tmp_path / "model.safetensors", *export(tmp_path, 0))
    assert (tmp_path / "model.safetensors").read_bytes() == run.file.read_bytes()
