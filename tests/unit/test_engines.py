"""Test models written for ONNX Runtime and OpenVINO: same logits, any batch; without the packages, one line."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from st3sweep.export.dead_channels import remove_dead_channels
from st3sweep.export.engines import save_onnx, save_openvino
from st3sweep.export.folding import fold_batch_norms, traced
from st3sweep.export.model_file import ModelFileError
from st3sweep.networks.cifar_resnet import CifarResNet
from st3sweep.util.errors import UserError

ABOUT = {"channels": 3, "image_size": 8, "class_names": ["a", "b", "ü"]}


@pytest.fixture
def model() -> nn.Module:
    """Return a ResNet-8 with batch norms as after training, and a dead channel."""
    torch.manual_seed(0)
    model = CifarResNet(8, 4, 3, 3).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 2.0)
                module.bias.normal_()
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
        block = model.get_submodule("stage1.0")
        block.get_submodule("conv1").weight[2] = 0.0
        norm = block.get_submodule("bn1")
        norm.bias[2] = norm.running_mean[2] / (norm.running_var[2] + 1e-5).sqrt() * norm.weight[2] - 1.0
    return model


@pytest.mark.slow  # importing the exporters takes seconds
def test_onnx(model: nn.Module, tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    import onnx
    import onnxruntime

    graph = fold_batch_norms(traced(model))
    assert remove_dead_channels(graph, (3, 8, 8)) == 1
    _, difference = save_onnx(tmp_path / "a.onnx", graph, model, ABOUT)
    assert difference < 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    for batch in (1, 7):
        x = torch.randn(batch, 3, 8, 8)
        (found,) = session.run(["logits"], {"images": x.numpy()})
        assert torch.allclose(torch.from_numpy(found), model(x), atol=1e-5)
    written = onnx.load(tmp_path / "a.onnx")
    assert {node.op_type for node in written.graph.node} <= {"Conv", "Relu", "Add", "ReduceMean", "Gemm", "Flatten"}
    assert json.loads({prop.key: prop.value for prop in written.metadata_props}["st3sweep"]) == ABOUT
    assert [4, 3, 3, 3] in [list(tensor.dims) for tensor in written.graph.initializer]
    assert [3, 4, 3, 3] in [list(tensor.dims) for tensor in written.graph.initializer], "the channel is gone"
    assert list(tmp_path.iterdir()) == [tmp_path / "a.onnx"]

    other = fold_batch_norms(traced(model))
    with torch.no_grad():
        other.get_submodule("fc").bias.add_(0.01)
    with pytest.raises(ModelFileError, match=r"b\.onnx: not written: logits differ by 0\.01 from torch's"):
        save_onnx(tmp_path / "b.onnx", other, model, ABOUT)
    with pytest.raises(
        ModelFileError, match=re.escape(f"{tmp_path / 'no' / 'b.onnx'}: cannot be written (No such file")
    ):
        save_onnx(tmp_path / "no" / "b.onnx", graph, model, ABOUT)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.onnx"]


@pytest.mark.slow  # importing the exporters takes seconds
def test_openvino(model: nn.Module, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    graph = fold_batch_norms(traced(model))
    _, difference = save_openvino(tmp_path / "a.xml", graph, model, ABOUT)
    assert difference < 1e-4
    read = openvino.Core().read_model(tmp_path / "a.xml")
    assert json.loads(read.get_rt_info("st3sweep").astype(str)) == ABOUT
    compiled = openvino.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for batch in (1, 7):
        x = torch.randn(batch, 3, 8, 8)
        assert torch.allclose(torch.from_numpy(compiled(x.numpy())[0]), model(x), atol=1e-4)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "a.bin", tmp_path / "a.xml"]


@pytest.mark.parametrize(
    ("save", "package", "extra"),
    [(save_onnx, "onnxruntime", "onnx"), (save_onnx, "onnxscript", "onnx"), (save_openvino, "openvino", "openvino")],
)
def test_without_the_packages_an_engine_is_an_error(
    model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: Any, package: str, extra: str
) -> None:
    if extra == "onnx":
        pytest.importorskip("onnx")
    if package == "onnxruntime":
        pytest.importorskip("onnxscript")
    monkeypatch.setitem(sys.modules, package, None)
    message = f"--format {extra} needs the package {package}; install it with: pip install 'st3sweep[{extra}]'"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        save(tmp_path / "a", model, model, ABOUT)
    assert not list(tmp_path.iterdir())
