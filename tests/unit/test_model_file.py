"""Test the file of an exported model: its content, and that damaged or wrong files are neither written nor loaded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor, nn

from st3sweep.export import model_file
from st3sweep.export.model_file import FORMATS, ModelFileError, load_exported, save
from st3sweep.export.preprocessing import preprocessing
from st3sweep.networks import build_model, flops
from st3sweep.sparse.method import prunable
from st3sweep.trial.settings import TrialSettings

INPUTS = {"channels": 1, "image_size": 8, "mean": [0.1], "std": [0.3]}


@pytest.fixture
def model(tiny_trial: Any) -> nn.Module:
    """Return a ResNet-8 of width 4, half of whose first convolution is zeros."""
    torch.manual_seed(0)
    model = build_model(tiny_trial().model, 10, 1)
    with torch.no_grad():
        prunable(model)["conv1.weight"][:2] = 0.0
    return model


@pytest.fixture
def metadata(model: nn.Module, tiny_trial: Any) -> dict[str, Any]:
    spec: TrialSettings = tiny_trial()
    costs = flops.layer_costs(model, (1, 8, 8))
    numel = sum(layer.numel for layer in costs)
    return {
        "model": spec.model.model_dump(mode="json"),
        "method": "ST-3σ",
        "num_classes": 10,
        "channels": 1,
        "image_size": 8,
        "mean": [0.1],
        "std": [0.3],
        "preprocessing": preprocessing(tiny_trial().data, INPUTS),
        "zeros": {layer.name: 18 if layer.name == "conv1" else 0 for layer in costs},
        "sparsity": 18 / numel,
        "gflops": (sum(layer.macs for layer in costs) - 18 * 64) / 1e9,
    }


def tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("format_", FORMATS)
def test_what_is_saved_is_loaded(model: nn.Module, metadata: dict[str, Any], tmp_path: Path, format_: str) -> None:
    path = tmp_path / f"a.{format_}"
    returned = save(path, model.state_dict(), metadata, format_)
    loaded, described = load_exported(path)
    assert same(tensors(loaded), tensors(model))
    assert same(tensors(returned), tensors(model))
    assert not loaded.training
    added = {"version": model_file.VERSION}
    if format_ == "packed":
        shapes = {name: list(weight.shape) for name, weight in prunable(model).items()}
        added = {"version": model_file.PACKED_VERSION, "values": "float32", "shapes": shapes, "card": described["card"]}
    assert described == {**metadata, **added}
    assert list(tmp_path.iterdir()) == [path]
    first = path.read_bytes()
    save(path, model.state_dict(), metadata, format_)
    assert path.read_bytes() == first


def test_plain_files_are_read_without_st3sweep(model: nn.Module, metadata: dict[str, Any], tmp_path: Path) -> None:
    for format_ in ("safetensors", "pt"):
        save(tmp_path / f"a.{format_}", model.state_dict(), metadata, format_)
    saved = torch.load(tmp_path / "a.pt", weights_only=True)
    assert same(safetensors.torch.load_file(tmp_path / "a.safetensors"), tensors(model))
    assert same(saved["state_dict"], tensors(model))
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata() == {"st3sweep": saved["st3sweep"]}


@pytest.mark.parametrize("format_", FORMATS)
def test_channels_last_and_shared_tensors(
    model: nn.Module, metadata: dict[str, Any], tmp_path: Path, format_: str
) -> None:
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = model.state_dict()
    state["stage1.0.conv1.weight"] = state["stage1.0.conv2.weight"]
    state["bn1.weight"] = state["fc.weight"][0, :4]  # a view of another tensor's memory
    assert not state["stage1.0.conv1.weight"].is_contiguous()
    save(tmp_path / "a", state, metadata, format_)
    loaded, _ = load_exported(tmp_path / "a")
    assert same(tensors(loaded), state)
    assert all(tensor.is_contiguous() for tensor in loaded.state_dict().values())
    assert (tmp_path / "a").stat().st_size < 60_000, "no more than the tensors themselves"


@pytest.mark.long
@pytest.mark.parametrize("format_", ["safetensors", "packed"])
def test_a_file_with_any_byte_altered_is_refused(
    model: nn.Module, metadata: dict[str, Any], tmp_path: Path, format_: str
) -> None:
    path = tmp_path / "a.safetensors"
    save(path, model.state_dict(), metadata, format_)
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    for position in [*range(0, header, 7), *range(header, len(content), 401), len(content) - 1]:
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(ModelFileError, match=re.escape(f"{path}: ")):
            load_exported(path)


@pytest.mark.parametrize("format_", FORMATS)
def test_a_truncated_file_is_refused(model: nn.Module, metadata: dict[str, Any], tmp_path: Path, format_: str) -> None:
    path = tmp_path / f"a.{format_}"
    save(path, model.state_dict(), metadata, format_)
    content = path.read_bytes()
    for size in (0, 1, 2, 8, 9, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(ModelFileError, match=re.escape(f"{path}: truncated, altered")):
            load_exported(path)


def test_an_altered_tensor_of_a_pt_file_is_refused(model: nn.Module, metadata: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    save(path, model.state_dict(), metadata, "pt")
    saved = torch.load(path, weights_only=True)
    saved["state_dict"]["fc.bias"][3] += 1e-6
    torch.save(saved, path)
    with pytest.raises(ModelFileError, match=re.escape(f"{path}: altered (its checksum")):
        load_exported(path)


def test_files_not_exported_by_st3sweep_are_refused(model: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "a"
    with pytest.raises(ModelFileError, match=re.escape(f"{path}: not found")):
        load_exported(path)
    for metadata in (None, {"format": "pt"}, {"st3sweep": "[]"}, {"st3sweep": "{}"}):
        safetensors.torch.save_file(tensors(model), path, metadata)
        with pytest.raises(ModelFileError, match=re.escape(f"{path}: not a model exported by st3sweep")):
            load_exported(path)
    torch.save(model.state_dict(), path)
    with pytest.raises(ModelFileError, match=re.escape(f"{path}: truncated, altered or not an exported model")):
        load_exported(path)


def test_a_file_of_another_version_is_refused(
    model: nn.Module, metadata: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    save(path, model.state_dict(), metadata)
    monkeypatch.setattr(model_file, "VERSION", 3)
    with pytest.raises(ModelFileError, match=re.escape(f"{path}: format version 1, but this st3sweep reads 3")):
        load_exported(path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"zeros": {"conv1": 17}}, "18 zeros in layer conv1, but 17 are recorded"),
        ({"zeros": {"fc": None}}, "0 zeros in layer fc, but None are recorded"),
        ({"zeros": {"other": 0}}, "None zeros in layer other, but 0 are recorded"),
        ({"sparsity": 0.9}, "but 0.9 is recorded"),
        ({"gflops": 0.1}, "but 0.1 is recorded"),
    ],
)
def test_a_model_that_differs_from_the_record_is_not_written(
    model: nn.Module, metadata: dict[str, Any], tmp_path: Path, wrong: dict[str, Any], message: str
) -> None:
    path = tmp_path / "a.safetensors"
    path.write_text("what was there before")
    changed = {**metadata, **wrong}
    if "zeros" in wrong:
        changed["zeros"] = {**metadata["zeros"], **wrong["zeros"]}
    with pytest.raises(ModelFileError, match=re.escape(f"{path}: not written: ") + f".*{re.escape(message)}"):
        save(path, model.state_dict(), changed)
    assert path.read_text() == "what was there before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_that_cannot_be_written_is_an_error(model: nn.Module, metadata: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "absent" / "a", tmp_path / "file" / "a", tmp_path):
        with pytest.raises(ModelFileError, match=re.escape(f"{path}: cannot be written (")):
            save(path, model.state_dict(), metadata)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
