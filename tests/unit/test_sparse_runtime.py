"""Test the sparse CPU engine: torch's logits, any geometry, damaged folders refused, threads apart."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from st3sweep.export.folding import fold_batch_norms, traced
from st3sweep.export.model_file import ModelFileError
from st3sweep.export.sparse_folder import packed, save_sparse, write_folder
from st3sweep.export.sparse_ops import sparse_ops
from st3sweep.networks.cifar_resnet import CifarResNet
from st3sweep.networks.mobilenet_v1 import MobileNetV1
from st3sweep.networks.resnet50 import ResNet50
from st3sweep.networks.vgg import VGG, VGG11
from st3sweep.networks.wide_resnet import WideResNet
from st3sweep.sparse_runtime import convolution, sparse_model
from st3sweep.sparse_runtime.compiled import SOURCES, CompilerError, engine
from st3sweep.sparse_runtime.convolution import Choice, shared
from st3sweep.sparse_runtime.model_folder import FORMAT, SparseModelError, checked
from st3sweep.sparse_runtime.ops import KINDS, Op
from st3sweep.sparse_runtime.plan import Plan
from st3sweep.sparse_runtime.sparse_model import SparseModel
from st3sweep.sparse_runtime.tuning import fastest
from st3sweep.util.errors import UserError

pytestmark = pytest.mark.skipif(not shutil.which(os.environ.get("CC", "cc")), reason="needs a C compiler")


@pytest.fixture(scope="module", autouse=True)
def share_all() -> Iterator[None]:
    """Share small operations too, as those of these models are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "FEW_MACS", 0)
        patch.setattr(convolution, "SMALL", 0)
        yield


def randomised(model: nn.Module, sparsity: float, seed: int = 0) -> nn.Module:
    """Prune at random, and give batch norms what training would: logits are then of order 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(generator=generator)
                module.running_mean.normal_(generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
            if isinstance(module, nn.Conv2d):
                module.weight.normal_(std=(2 / (module.weight[0].numel() * (1 - sparsity))) ** 0.5, generator=generator)
                module.weight.mul_(torch.rand(module.weight.shape, generator=generator) >= sparsity)
    return model.eval()


def save(folder: Path, model: nn.Module, channels: int, size: int) -> None:
    save_sparse(folder, fold_batch_norms(traced(model)), model, {"channels": channels, "image_size": size})


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    return randomised(CifarResNet(8, 4, 10, 3), 0.8)


@pytest.fixture(scope="module")
def folder(resnet: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("sparse") / "model.sparse"
    save(path, resnet, 3, 16)
    return path


@pytest.mark.parametrize("sparsity", [0.0, 0.9])
@pytest.mark.parametrize(
    ("build", "size"),
    [
        (lambda: CifarResNet(8, 8, 10, 3), 32),
        (lambda: CifarResNet(8, 5, 7, 1), 9),
        (lambda: VGG(VGG11, 10, 3), 32),
        (lambda: WideResNet(10, 1, 10, 3), 16),
        (lambda: MobileNetV1(10, 3, 0.25), 33),
        (lambda: ResNet50(10, 3), 33),
    ],
)
def test_logits_are_those_of_torch(build: Any, size: int, sparsity: float, tmp_path: Path) -> None:
    model = randomised(build(), sparsity)
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    graph = fold_batch_norms(traced(model))
    ops, arrays = sparse_ops(graph, (first.in_channels, size, size))
    write_folder(tmp_path, ops, arrays, {"channels": first.in_channels, "image_size": size})
    x = torch.randn(3, first.in_channels, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(x).numpy()
    assert np.abs(expected).max() > 0.1
    for tune in (False, size < 20):
        found = SparseModel(tmp_path, tune=tune)(x.numpy())
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


geometry = st.fixed_dictionaries(
    {
        "kernel": st.tuples(st.integers(1, 5), st.integers(1, 5)),
        "stride": st.tuples(st.integers(1, 4), st.integers(1, 4)),
        "padding": st.tuples(st.integers(0, 4), st.integers(0, 4)),
        "dilation": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "size": st.tuples(st.integers(1, 20), st.integers(1, 20)),
        "channels": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "groups": st.integers(1, 3),
        "sparsity": st.sampled_from([0.0, 0.5, 0.9, 1.0]),
        "act": st.sampled_from(["none", "relu", "relu6", "hardswish"]),
        "residual": st.booleans(),
    }
)
ACTS: dict[str, Any] = {"none": lambda x: x, "relu": F.relu, "relu6": F.relu6, "hardswish": F.hardswish}


def run(ops: list[dict[str, Any]], arrays: dict[str, Any], images: torch.Tensor) -> list[np.ndarray[Any, Any]]:
    """Return what ``ops`` and a flattening make of ``images``, for each kernel of the convolutions."""
    tensors, content = packed(arrays)
    about = {"format": FORMAT, "version": 1, "input": list(images.shape[1:]), "tensors": tensors, "about": {}}
    flat = [*ops, {"op": "flatten", "inputs": [len(ops)]}]
    with pytest.raises(SparseModelError) as error:  # says how many numbers there are
        checked(json.dumps({**about, "ops": flat, "classes": 2**27}), content)
    made = re.search(r"makes \((\d+),\)$", str(error.value))
    assert made, error.value
    model = checked(json.dumps({**about, "ops": flat, "classes": int(made[1])}), content)
    results = []
    for kind, tile, block in (("sparse", 4, 0), ("packed", 2, 1), ("packed", 3, 3), ("dense", 3, 0)):
        plan = Plan(model)
        choices = {
            position: Choice(kind, tile, min(block, one.group_planes))
            for position, one in plan.convolutions.items()
            if not one.depthwise and (kind == "sparse" or one.groups == 1)
        }
        with pytest.MonkeyPatch.context() as patch:
            # Everything is shared, by pixels where that is possible.
            for name in ("FEW_MACS", "SMALL", "TILED", "BAND"):
                patch.setattr(convolution, name, 1)
            results.append(SparseModel.of_plan(plan, choices, threads=2)(images.numpy()))
    return results


@settings(max_examples=60, deadline=None)
@given(geometry, st.integers(0, 2**31))
def test_a_convolution_of_any_geometry_is_that_of_torch(drawn: dict[str, Any], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    groups = drawn["groups"]
    c_in, c_out = (count * groups for count in drawn["channels"])
    reach = [far * (kernel - 1) for far, kernel in zip(drawn["dilation"], drawn["kernel"], strict=True)]
    assume(all(have + 2 * pad > far for have, pad, far in zip(drawn["size"], drawn["padding"], reach, strict=True)))
    weight = torch.randn(c_out, c_in // groups, *drawn["kernel"], generator=generator)
    weight *= torch.rand(weight.shape, generator=generator) >= drawn["sparsity"]
    bias = torch.randn(c_out, generator=generator)
    x = torch.randn(3, c_in, *drawn["size"], generator=generator)
    settings_ = {name: drawn[name] for name in ("stride", "padding", "dilation", "groups")}
    plain = F.conv2d(x, weight, bias, **settings_)
    op = {
        "op": "conv",
        "weight": "w",
        "bias": "b",
        **{k: list(v) if k != "groups" else v for k, v in settings_.items()},
    }
    ops = [{**op, "inputs": [0], "act": "none"}]
    expected = plain
    if drawn["residual"]:
        ops.append({**op, "inputs": [0, 1], "act": drawn["act"]})
        expected = ACTS[drawn["act"]](plain + plain)
    for found in run(ops, {"w": weight.numpy(), "b": bias.numpy()}, x):
        torch.testing.assert_close(torch.from_numpy(found), expected.flatten(1), rtol=1e-4, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.booleans(),
    st.booleans(),
)
def test_pooling_is_that_of_torch(kernel: Any, stride: Any, padding: Any, size: Any, ceil: bool, counted: bool) -> None:
    for k, pad, have in zip(kernel, padding, size, strict=True):
        assume(2 * pad <= k <= have + 2 * pad)
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0)) - 3  # zero padding would be the largest
    fields = {"inputs": [0], "kernel": list(kernel), "stride": list(stride), "padding": list(padding), "ceil": ceil}
    for found in run([{"op": "maxpool", **fields}], {}, x):
        assert torch.equal(torch.from_numpy(found), F.max_pool2d(x, kernel, stride, padding, 1, ceil).flatten(1))
    for found in run([{"op": "avgpool", **fields, "count_padding": counted}], {}, x):
        expected = F.avg_pool2d(x, kernel, stride, padding, ceil, counted).flatten(1)
        torch.testing.assert_close(torch.from_numpy(found), expected)


class Branches(nn.Module):
    """What the project's own networks lack: concatenation, average pooling, hardswish, layers between linear ones."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 5, 3, padding=2, bias=True), nn.Conv2d(3, 4, 1, padding=1)
        self.norm = nn.BatchNorm2d(9)
        self.c = nn.Conv2d(9, 9, (1, 3), padding="same", groups=3)
        self.first, self.second = nn.Linear(9 * 16, 12), nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.cat([F.relu6(self.a(x)), F.hardswish(self.b(x))], 1)
        y = self.c(F.relu(self.norm(y))) + y
        y = y + y
        y = F.adaptive_avg_pool2d(F.avg_pool2d(y, 3, 1, 1), 4).flatten(1)
        return self.second(F.relu(self.first(y)))


def test_branches(tmp_path: Path) -> None:
    model = randomised(Branches(), 0.3)
    save(tmp_path / "a", model, 3, 10)
    x = torch.randn(5, 3, 10, 10)
    with torch.no_grad():
        assert torch.allclose(torch.from_numpy(SparseModel(tmp_path / "a")(x.numpy())), model(x), atol=1e-4)


def test_the_folder_stands_alone(folder: Path, resnet: nn.Module, tmp_path: Path) -> None:
    """Without st3sweep and torch: another folder, no path, an empty cache."""
    shutil.copytree(folder, tmp_path / "m")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32))
    code = (
        "import sys, numpy as np; sys.modules['torch'] = sys.modules['st3sweep'] = None\n"
        "from load import SparseModel; np.save('../y.npy', SparseModel('.', tune=False)(np.load('../x.npy')))"
    )
    here = {**os.environ, "PYTHONPATH": "", "ST3SWEEP_SPARSE_CFLAGS": "-O1", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "m", env=here, check=True)
    with torch.no_grad():
        expected = resnet(torch.from_numpy(np.load(tmp_path / "x.npy"))).numpy()
    assert np.abs(np.load(tmp_path / "y.npy") - expected).max() < 1e-4 * np.abs(expected).max()
    assert len(list((tmp_path / "cache").rglob("*.so"))) == 1


def test_small_convolutions_are_not_shared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of fewer multiply-accumulates than that costs less than to wait for a thread."""
    for few, alone in ((0, False), (2**19, True)):
        monkeypatch.setattr(convolution, "FEW_MACS", few)
        ops = SparseModel(folder, tune=False, threads=2)._kept
        assert {bool(op.alone) for op in ops if op.macs} == {alone}
    assert 0 < max(op.macs for op in ops) < 2**19


@pytest.mark.parametrize(("size", "banded"), [(128, True), (16, False)])
def test_large_planes_are_shared_by_pixels(size: int, banded: bool) -> None:
    """Each thread then has as many tiles, and the same pixels in every layer; of small planes it has channels."""
    lanes, values = 8, {"height": size, "pitch": size + 1, "channels": 64, "channels_in": 64, "tile": 12, "chunks": 1}
    vectors = -(-size * (size + 1) // lanes)
    depthwise = shared(Op(kind=KINDS.index("depthwise"), items=1, **values), 2, lanes)
    assert (bool(depthwise.banded), depthwise.items) == (banded, 6)
    conv = Op(kind=KINDS.index("sparse"), items=-(-vectors // 12), **values)
    conv.macs = 2**20
    made = shared(conv, 2, lanes)
    tiles = -(-vectors // made.tile)
    assert tiles % 2 == 0
    assert made.items == tiles * made.chunks >= 6
    assert shared(conv, 1, lanes).tile == 12


@pytest.mark.parametrize("threads", [1, 2])
def test_python_threads_share_a_model(folder: Path, threads: int) -> None:
    """Logits are bit by bit those of one thread, which are those of each image alone, whoever has the helpers."""
    model = SparseModel(folder, tune=False, threads=threads)
    images = np.random.default_rng(0).normal(size=(8, 7, 3, 16, 16)).astype(np.float32)
    alone = SparseModel(folder, tune=False)
    expected = [np.concatenate([alone(image[None]) for image in one]) for one in images]
    found: dict[int, Any] = {}

    def call(i: int) -> None:
        found[i] = [model(images[i, : 1 + number % 7]) for number in range(14)]

    callers = [threading.Thread(target=call, args=(i,)) for i in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(found) == 8
    assert all(np.array_equal(one, expected[i][: len(one)]) for i in range(8) for one in found[i])
    assert len(model._free) <= 8


def test_a_fork_and_an_end_leave_nobody_waiting(folder: Path) -> None:
    """The child has no helpers, and finishes all the same; a model that goes takes its threads along."""
    before = threads_of_this_process()
    model = SparseModel(folder, tune=False, threads=2)
    images = np.ones((3, 3, 16, 16), np.float32)
    expected = model(images)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(model(images), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert np.array_equal(model(images), expected)
    del model
    assert threads_of_this_process() <= before


def threads_of_this_process() -> set[str]:
    """Return their numbers, where the system tells."""
    return {path.name for path in Path("/proc/self/task").glob("*")}


def test_logits_go_where_the_caller_says(folder: Path) -> None:
    model = SparseModel(folder, tune=False)
    images = np.ones((2, 3, 16, 16), np.float32)
    out = np.zeros((2, 10), np.float32)
    assert model(images, out) is out
    assert np.array_equal(out, model(images))
    with pytest.raises(ValueError, match=re.escape("out must be float32 (2, 10), contiguous and writeable, not")):
        model(images, out.T)
    with pytest.raises(ValueError, match="threads must be at least 1, not 0"):
        SparseModel(folder, threads=0)


def test_kernels_are_measured_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Choices are stored by model; a damaged store is measured again; logits stay those of torch's tolerance."""
    monkeypatch.setattr(sparse_model, "cache_folder", lambda: tmp_path)
    images = np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32)
    expected = SparseModel(folder, tune=False)(images)
    measured = []
    monkeypatch.setattr(sparse_model, "fastest", lambda *a: measured.append(1) or fastest(*a))
    for count, damage in ((1, None), (1, None), (2, "{"), (3, '{"1": ["packed", 99, 99]}'), (4, "[]")):
        if damage:
            next(tmp_path.glob("kernels-*.json")).write_text(damage)
        np.testing.assert_allclose(SparseModel(folder)(images), expected, rtol=1e-4, atol=1e-5)
        assert len(measured) == count


def test_batches_and_wrong_images(folder: Path) -> None:
    model = SparseModel(folder, tune=False)
    images = np.random.default_rng(0).normal(size=(4, 3, 16, 16)).astype(np.float32)
    assert np.array_equal(model(images), np.concatenate([model(one[None]) for one in images]))
    assert np.array_equal(model(np.asfortranarray(images)), model(images))
    assert model(images[:0]).shape == (0, 10)
    with pytest.raises(ValueError, match=re.escape("must be float32 (B, 3, 16, 16), not float64 (4, 3, 16, 16)")):
        model(images.astype(np.float64))
    with pytest.raises(ValueError, match=re.escape("not float32 (4, 3, 16, 15)")):
        model(images[..., :15])
    images[1, 2, 3, 4] = np.nan
    with pytest.raises(ValueError, match="images must be finite"):
        model(images)


def test_other_logits_are_not_written(resnet: nn.Module, tmp_path: Path) -> None:
    graph = fold_batch_norms(traced(resnet))
    with torch.no_grad():
        graph.get_submodule("fc").bias.add_(0.1)
    with pytest.raises(ModelFileError, match=r"a: not written: logits differ by 0\.1 from torch's"):
        save_sparse(tmp_path / "a", graph, resnet, {"channels": 3, "image_size": 16})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("module", "named"),
    [
        (nn.SiLU(), "(SiLU)"),
        (nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"), "(Conv2d) is not supported: padding_mode reflect"),
        (nn.AdaptiveAvgPool2d(3), "do not divide into"),
        (nn.Softmax(1), "(Softmax)"),
    ],
)
def test_what_the_engine_lacks_is_named(module: nn.Module, named: str, tmp_path: Path) -> None:
    model = nn.Sequential(module, nn.Flatten(), nn.LazyLinear(2))
    model(torch.zeros(1, 3, 8, 8))
    with pytest.raises(UserError, match=f"^--format sparse: .*{re.escape(named)}"):
        save(tmp_path / "a", model, 3, 8)


def test_without_a_compiler_one_line_says_so(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CompilerError, match=r"^no C compiler found \(looked for cc, gcc, clang\); install gcc or"):
        SparseModel(folder)


def test_code_that_does_not_compile_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in SOURCES:
        (tmp_path / name).write_text("int x = y;" if name == "engine.c" else "")
    with pytest.raises(CompilerError, match=r"cannot compile the engine: .*error: .*y"):
        engine(tmp_path)


def test_given_images_are_compared_too(resnet: nn.Module, tmp_path: Path) -> None:
    """Large images, on which a difference shows that random ones of order 1 do not reach."""
    graph = fold_batch_norms(traced(resnet))
    about = {"channels": 3, "image_size": 16}
    torch.manual_seed(0)
    _, difference = save_sparse(tmp_path / "a", graph, resnet, about)
    _, larger = save_sparse(tmp_path / "a", graph, resnet, about, 1000 * torch.randn(4, 3, 16, 16))
    assert larger > 10 * difference
