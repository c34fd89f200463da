"""Test when ONNX Runtime runs instead of the sparse engine, and that it runs the same model."""

from __future__ import annotations

import ast
import json
import math
import os
import shutil
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from st3sweep.export.sparse_folder import MODULES, RUNTIME, packed
from st3sweep.sparse_runtime import dense_engine, sparse_model
from st3sweep.sparse_runtime.dense_engine import live_macs, onnx_session, remark
from st3sweep.sparse_runtime.model_folder import FORMAT, Model, checked
from st3sweep.sparse_runtime.onnx_model import onnx_model
from st3sweep.sparse_runtime.plan import Plan
from st3sweep.sparse_runtime.sparse_model import SparseModel

pytestmark = pytest.mark.skipif(not shutil.which(os.environ.get("CC", "cc")), reason="needs a C compiler")


def model_text(density: float) -> tuple[str, bytes]:
    """Return a small model with every operation and activation."""
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> Any:
        return (rng.normal(size=shape) * (rng.random(shape) < density)).astype(np.float32)

    arrays = {"a.w": weight(4, 2, 3, 3), "a.b": weight(4), "d.w": weight(4, 1, 3, 3), "d.b": weight(4)}
    arrays |= {"p.w": weight(4, 4, 1, 1), "p.b": weight(4), "l.w": weight(5, 72), "l.b": weight(5)}
    arrays |= {"m.w": weight(3, 5), "m.b": weight(3)}
    plain = {"stride": [1, 1], "padding": [1, 1], "dilation": [1, 1], "groups": 1, "act": "relu"}
    pool = {"kernel": [3, 3], "stride": [2, 2], "padding": [1, 1], "ceil": True}
    ops: list[dict[str, Any]] = [
        {"op": "conv", "inputs": [0], "weight": "a.w", "bias": "a.b", **plain, "stride": [2, 1], "padding": [2, 1],
         "dilation": [2, 1]},
        {"op": "conv", "inputs": [1, 1], "weight": "d.w", "bias": "d.b", **plain, "groups": 4, "act": "hardswish"},
        {"op": "conv", "inputs": [2], "weight": "p.w", "bias": "p.b", **plain, "padding": [0, 0]},
        {"op": "pointwise", "inputs": [2, 3], "act": "relu6"},
        {"op": "concat", "inputs": [4, 1]},
        {"op": "maxpool", "inputs": [5], **pool},
        {"op": "avgpool", "inputs": [6], **pool, "count_padding": False, "stride": [1, 2]},
        {"op": "flatten", "inputs": [7]},
        {"op": "linear", "inputs": [8], "weight": "l.w", "bias": "l.b", "act": "relu"},
        {"op": "linear", "inputs": [9], "weight": "m.w", "bias": "m.b", "act": "none"},
    ]  # fmt: skip
    tensors, content = packed(arrays)
    model = {"format": FORMAT, "version": 1, "input": [2, 7, 7], "classes": 3, "ops": ops, "tensors": tensors}
    return json.dumps({**model, "about": {}}), content


def small_model(density: float = 0.6) -> Model:
    return checked(*model_text(density))


def test_the_onnx_model_is_sound_and_has_the_same_logits() -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model = small_model()
    onnx.checker.check_model(onnx.load_from_string(onnx_model(model)), full_check=True)
    images = np.random.default_rng(1).normal(size=(3, 2, 7, 7)).astype(np.float32)
    session = onnx_session(model, 1)
    assert session is not None
    expected = SparseModel.of_plan(Plan(model))(images)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(session(images), expected, rtol=1e-4, atol=1e-5)


def test_live_macs_are_counted_by_hand() -> None:
    model = small_model()
    made = [int(np.prod(shape[1:])) for shape in model.shapes]
    pixels = {"a.w": made[1], "d.w": made[2], "p.w": made[3], "l.w": 1, "m.w": 1}
    live = sum(np.count_nonzero(model.tensors[name]) * count for name, count in pixels.items())
    dense = sum(model.tensors[name].size * count for name, count in pixels.items())
    assert live_macs(model) == pytest.approx(live / dense)
    assert live_macs(small_model(0.0)) == 0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sparse_model, "cache_folder", lambda: tmp_path / "cache")
    text, content = model_text(0.6)
    (tmp_path / "ops.json").write_text(text)
    (tmp_path / "weights.bin").write_bytes(content)
    return tmp_path


def test_the_faster_engine_runs_and_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    images = np.random.default_rng(1).normal(size=(3, 2, 7, 7)).astype(np.float32)
    expected = SparseModel(folder, engine="sparse")(images)
    SparseModel(folder)
    stored = next((folder / "cache").glob("times-*"))  # real times of both
    assert all(0 < one < 1 for one in json.loads(stored.read_text()))
    for ours, theirs, engine in ((0.002, 0.001, "onnxruntime"), (0.001, 0.002, "sparse")):
        stored.write_text(json.dumps([ours, theirs]))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            model = SparseModel(folder)
        assert model.engine == engine
        assert [str(one.message) for one in said] == (
            ["57 % of the multiply-accumulates are not with zero: runs in ONNX Runtime (1 ms an image), "
             "because skipping zeros is 2.00 times slower (2 ms)"] if engine == "onnxruntime" else []
        )  # fmt: skip
        np.testing.assert_allclose(model(images), expected, rtol=1e-4, atol=1e-5)
        assert model(images[:0]).shape == (0, 3)
        assert SparseModel(folder, engine="sparse").engine == "sparse"


def test_other_logits_are_not_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = lambda images: np.ones((len(images), 3), np.float32)  # noqa: E731
    monkeypatch.setattr(sparse_model, "onnx_session", lambda *_: wrong)
    assert SparseModel(folder).engine == "sparse"
    assert dense_engine.times(folder / "no", SparseModel(folder), wrong, (2, 7, 7))[1] == math.inf


def test_without_onnx_runtime_the_warning_estimates() -> None:
    assert remark(0.6, math.nan, math.inf, installed=False) == (
        "60 % of the multiply-accumulates are not with zero: this engine is about 1.3 times slower than a dense one "
        "(estimated); install onnxruntime, and it runs instead"
    )
    assert remark(0.2, math.nan, math.inf, installed=False) == ""
    assert remark(0.6, math.nan, math.inf, installed=True) == ""


def test_joined_modules_share_no_name() -> None:
    """load.py has them all in one file: a function would replace another of its name."""
    names = Counter[str]()
    for module in MODULES:
        for node in ast.parse((RUNTIME / module).read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names[node.name] += 1
            elif isinstance(node, ast.Assign):
                names.update(
                    target.id for target in node.targets if isinstance(target, ast.Name) and target.id != "Array"
                )
    assert [name for name, count in names.items() if count > 1] == []
