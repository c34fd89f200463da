"""Test packed model files: the loader on their card, compression, float16, and what reads exported models."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from st3sweep.export.half import in_half
from st3sweep.export.model_file import ModelFileError, counted, load_exported, save, totals
from st3sweep.export.packed_file import LOADER
from st3sweep.export.preprocessing import preprocessing
from st3sweep.networks import build_model
from st3sweep.networks.pretrained import load_pretrained
from st3sweep.sparse.method import prunable
from st3sweep.util.errors import UserError

# What the card tells to import, where neither torch nor st3sweep can be.
READER = """
import sys
sys.modules.update(torch=None, st3sweep=None)
import json, numpy as np
from safetensors import safe_open
path = sys.argv[1]
{loader}
np.savez(sys.argv[2], **state)
print(sorted(name for name in ("torch", "st3sweep") if sys.modules[name] is not None))
"""


INPUTS = {"channels": 1, "image_size": 8, "mean": [0.1], "std": [0.3]}


@pytest.fixture
def model(tiny_trial: Any) -> nn.Module:
    """Return a ResNet-8 of width 4 whose layers have every density: all, half, some, few, one, none, -0.0 for zeros."""
    torch.manual_seed(0)
    model = build_model(tiny_trial().model, 10, 1)
    densities = [1.0, 0.5, 0.2, 0.1, 0.01, 0.0]
    with torch.no_grad():
        for place, weight in enumerate(prunable(model).values()):
            weight.mul_(torch.rand_like(weight) < densities[place % len(densities)])
        model.fc.weight.zero_()[9, -1] = 1.5  # a long gap
    return model


@pytest.fixture
def metadata(model: nn.Module, tiny_trial: Any) -> dict[str, Any]:
    about = {
        "model": tiny_trial().model.model_dump(mode="json"),
        "method": "ST-3",
        "dataset": "digits",
        "num_classes": 10,
        "channels": 1,
        "image_size": 8,
        "mean": [0.1],
        "std": [0.3],
        "preprocessing": preprocessing(tiny_trial().data, INPUTS),
        "val_top1": 98.25,
    }
    costs, zeros = counted(model, about)
    by_layer = {layer.name: count for layer, count in zip(costs, zeros, strict=True)}
    return {**about, "zeros": by_layer, **totals(costs, zeros)}


def tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_the_loader_on_the_card_needs_numpy_only(model: nn.Module, metadata: dict[str, Any], tmp_path: Path) -> None:
    assert any((weight.view(torch.int32) == -(2**31)).any() for weight in prunable(model).values()), "-0.0"
    for fp16 in (False, True):
        state = tensors(model)
        if fp16:
            state, metadata = in_half(state, metadata)
        save(tmp_path / "a.safetensors", state, metadata, "packed", fp16=fp16)
        with safe_open(tmp_path / "a.safetensors", "np") as file:
            card, names = json.loads(file.metadata()["st3sweep"])["card"], set(file.keys())
        assert {"fc.weight.gaps", "conv1.weight.mask", "conv1.weight.values", "bn1.bias"} < names
        assert not names & prunable(model).keys()
        assert card.endswith(LOADER)
        assert len(LOADER.splitlines()) <= 6
        program = READER.format(loader=card[card.index(LOADER) :])
        command = [sys.executable, "-c", program, str(tmp_path / "a.safetensors"), str(tmp_path / "a.npz")]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
        with np.load(tmp_path / "a.npz") as read:
            assert set(read) == state.keys()
            for name, tensor in state.items():
                assert read[name].shape == tuple(tensor.shape)
                assert np.array_equal(read[name], tensor.numpy()), name
                assert not np.signbit(read[name][read[name] == 0]).any() or name not in prunable(model)


def test_the_loader_in_the_docs_is_that_of_the_card() -> None:
    assert LOADER in (Path(__file__).parents[2] / "docs" / "deploy.md").read_text(encoding="utf-8")


def test_the_card_says_what_the_model_takes(model: nn.Module, metadata: dict[str, Any], tmp_path: Path) -> None:
    save(tmp_path / "a", model.state_dict(), metadata, "packed")
    with safe_open(tmp_path / "a", "np") as file:
        card = json.loads(file.metadata()["st3sweep"])["card"]
    for text in (
        "cifar_resnet (depth 8, width 4)",
        "digits",
        "ST-3",
        "val 98.25 %",
        "(B, 1, 8, 8)",
        "[0.1]",
        "logits (B, 10)",
    ):
        assert text in card


def test_an_altered_card_is_refused(model: nn.Module, metadata: dict[str, Any], tmp_path: Path) -> None:
    save(tmp_path / "a", model.state_dict(), metadata, "packed")
    content = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(content.replace(b"val 98.25", b"val 99.25"))
    with pytest.raises(ModelFileError, match="altered"):
        load_exported(tmp_path / "a")


def test_a_compressed_file_is_the_same_file(model: nn.Module, metadata: dict[str, Any], tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    save(tmp_path / "a", model.state_dict(), metadata, "packed")
    save(tmp_path / "b", model.state_dict(), metadata, "packed", zstd=True)
    content = (tmp_path / "b").read_bytes()
    reader = zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=True)
    assert reader.read() == (tmp_path / "a").read_bytes()
    loaded, described = load_exported(tmp_path / "b")
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in loaded.state_dict().items())
    assert described == load_exported(tmp_path / "a")[1]
    for size in (4, 100, len(content) // 2, len(content) - 1):
        (tmp_path / "b").write_bytes(content[:size])
        with pytest.raises(ModelFileError, match="truncated, altered"):
            load_exported(tmp_path / "b")


def test_without_the_package_zstd_is_an_error(
    model: nn.Module, metadata: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    message = "--zstd needs the package zstandard; install it with: pip install 'st3sweep[zstd]'"
    with pytest.raises(UserError, match=re.escape(message)):
        save(tmp_path / "a", model.state_dict(), metadata, "packed", zstd=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("zstd", [False, True])
def test_a_trial_starts_from_a_packed_file(
    model: nn.Module, metadata: dict[str, Any], tmp_path: Path, tiny_trial: Any, zstd: bool
) -> None:
    if zstd:
        pytest.importorskip("zstandard")
    path = tmp_path / f"a.safetensors{'.zst' if zstd else ''}"
    save(path, model.state_dict(), metadata, "packed", zstd=zstd)
    config = tiny_trial(model={"weights": str(path)}).model
    fresh = build_model(config, 10, 1)
    load_pretrained(fresh, config)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in fresh.state_dict().items())


def test_half_counts_the_weights_that_vanish(model: nn.Module, metadata: dict[str, Any], tmp_path: Path) -> None:
    with torch.no_grad():
        model.conv1.weight[0, 0, 0] = torch.tensor([2e-8, -2e-8, 1.0009765])  # half of the least float16 is 2.98e-8
    rounded, about = in_half(tensors(model), metadata)
    assert rounded["conv1.weight"][0, 0, 0].tolist() == [0, 0, 1.0009765625]
    assert about["zeros"]["conv1"] == metadata["zeros"]["conv1"] + 2
    assert about["gflops"] == pytest.approx(metadata["gflops"] - 2 * 64 / 1e9, rel=1e-9)
    assert torch.equal(rounded["bn1.weight"], model.bn1.weight), "other tensors stay"
    loaded = save(tmp_path / "a", rounded, about, "packed", fp16=True)
    assert torch.equal(prunable(loaded)["conv1.weight"], rounded["conv1.weight"])


def test_half_refuses_what_float16_cannot_express(model: nn.Module, metadata: dict[str, Any]) -> None:
    with torch.no_grad():
        model.fc.weight[0, 0] = -70000.0
    with pytest.raises(
        UserError, match=re.escape("--fp16: fc.weight has a weight of 7e+04, and float16 ends at 65504")
    ):
        in_half(tensors(model), metadata)
