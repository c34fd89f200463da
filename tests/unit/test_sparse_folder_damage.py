"""Fuzz the folders of the sparse engine: whatever is in them, they are refused with a line or run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from st3sweep.export.sparse_folder import packed
from st3sweep.sparse_runtime import compiled, convolution
from st3sweep.sparse_runtime.model_folder import FORMAT, SparseModelError, checked, read_folder
from st3sweep.sparse_runtime.plan import Plan
from st3sweep.sparse_runtime.sparse_model import SparseModel

pytestmark = pytest.mark.skipif(not shutil.which(os.environ.get("CC", "cc")), reason="needs a C compiler")
SANITIZED = "ST3SWEEP_TEST_SANITIZED"  # set where this file runs with the engine under AddressSanitizer


@pytest.fixture(scope="module", autouse=True)
def share_all() -> Iterator[None]:
    """Share small operations too, as those of these models are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "FEW_MACS", 0)
        patch.setattr(convolution, "SMALL", 0)
        yield


def sound() -> tuple[dict[str, Any], bytes]:
    """Return a small model with every operation."""
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> Any:
        return (rng.normal(size=shape) * (rng.random(shape) < 0.4)).astype(np.float32)

    arrays = {"a.w": weight(4, 2, 3, 3), "a.b": weight(4), "d.w": weight(4, 1, 3, 3), "d.b": weight(4)}
    arrays |= {"p.w": weight(4, 4, 1, 1), "p.b": weight(4), "l.w": weight(5, 32), "l.b": weight(5)}
    arrays |= {"m.w": weight(3, 5), "m.b": weight(3)}
    plain = {"stride": [1, 1], "padding": [1, 1], "dilation": [1, 1], "groups": 1, "act": "relu"}
    pool = {"kernel": [3, 3], "stride": [2, 2], "padding": [1, 1], "ceil": False}
    ops: list[dict[str, Any]] = [
        {"op": "conv", "inputs": [0], "weight": "a.w", "bias": "a.b", **plain, "stride": [2, 2]},
        {"op": "conv", "inputs": [1, 1], "weight": "d.w", "bias": "d.b", **plain, "groups": 4, "act": "hardswish"},
        {"op": "conv", "inputs": [2], "weight": "p.w", "bias": "p.b", **plain, "padding": [0, 0]},
        {"op": "pointwise", "inputs": [2, 3], "act": "relu6"},
        {"op": "concat", "inputs": [4, 1]},
        {"op": "maxpool", "inputs": [5], **pool},
        {"op": "avgpool", "inputs": [6], **pool, "count_padding": True, "stride": [1, 1]},
        {"op": "flatten", "inputs": [7]},
        {"op": "linear", "inputs": [8], "weight": "l.w", "bias": "l.b", "act": "relu"},
        {"op": "linear", "inputs": [9], "weight": "m.w", "bias": "m.b", "act": "none"},
    ]
    tensors, content = packed(arrays)
    model = {"format": FORMAT, "version": 1, "input": [2, 7, 7], "classes": 3, "ops": ops, "tensors": tensors}
    return {**model, "about": {}}, content


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of each value inside ``value``, containers too."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, one in below for found in leaves(one, (*path, key)))]


PATHS = [path for path in leaves(sound()[0]) if path]
small = st.integers(-2, 12)
odd = st.one_of(
    small, small, small, st.integers(), st.floats(), st.none(), st.booleans(), st.text(max_size=3),
    st.sampled_from(["conv", "linear", "maxpool", "mean", "concat", "pointwise", "flatten", "a.w", "d.w", "none"]),
    st.lists(small, max_size=4), st.just({}), st.sampled_from([2**14, 2**26, 2**31, 2**63]),
)  # fmt: skip
mutations = st.lists(st.tuples(st.sampled_from(PATHS), odd, st.sampled_from(["set", "set", "set", "drop"])), max_size=3)


def mutated(model: dict[str, Any], changes: list[tuple[tuple[Any, ...], Any, str]]) -> dict[str, Any]:
    for path, value, what in changes:
        at: Any = model
        try:
            for key in path[:-1]:
                at = at[key]
            if what == "drop":
                del at[path[-1]]
            else:
                at[path[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took it away
    return model


def try_to_run(text: str | bytes, content: bytes) -> bool:
    """Return whether the model ran; it must else be refused with one line. Large ones are planned, and not run."""
    try:
        plan = Plan(checked(text, content))
    except SparseModelError as error:
        refused = str(error)
    else:
        return ran(plan)
    assert len(refused.splitlines()) == 1
    assert len(refused) < 500
    return False


def ran(plan: Plan) -> bool:
    if plan.arena > 2**20:
        return False
    model = SparseModel.of_plan(plan, threads=2)
    images = np.random.default_rng(0).normal(size=(3, *model.input_shape)).astype(np.float32)
    assert np.array_equal(model(images), model(images)), "reads what another call left"
    return True


def test_the_sound_model_runs() -> None:
    model, content = sound()
    assert try_to_run(json.dumps(model), content)


@settings(max_examples=int(os.environ.get("ST3SWEEP_TEST_EXAMPLES", "60")), deadline=None,
          suppress_health_check=[HealthCheck.too_slow])  # fmt: skip
@given(mutations)
def test_changed_json_is_refused_or_runs(changes: list[Any]) -> None:
    model, content = sound()
    try_to_run(json.dumps(mutated(model, changes)), content)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_changed_bytes_are_refused_or_run(data: st.DataObject) -> None:
    model, content = sound()
    text = json.dumps(model)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content = content[:at] + bytes([data.draw(st.integers(0, 255))]) + content[at + 1 :]
    try_to_run(text, content[: data.draw(st.sampled_from([len(content), len(content) - 1, 0]))])
    cut = data.draw(st.integers(0, len(text) - 1))
    assert not try_to_run(text[:cut].encode(), content)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("ops", 0, "inputs"), [1], "ops[0]: inputs must be a whole number from 0 to 0, not 1"),
        (("ops", 0, "stride"), [0, 2], "ops[0]: stride must be a whole number from 1 to 16384, not 0"),
        (("ops", 0, "act"), "gelu", "ops[0]: act must be one of none, relu, relu6, hardswish, not gelu"),
        (("ops", 1, "op"), "attention", "ops[1]: op must be one of conv, linear, maxpool, avgpool, mean, pointwise,"),
        (("ops", 1, "groups"), 2, "ops[1]: reads 2 channels, but gets 4"),
        (("ops", 8, "weight"), "no", "ops[8]: weight 'no' is not among the tensors"),
        (("classes",), 4, "the last operation must make (4,), but makes (3,)"),
        (("tensors", "a.b", "values"), [0, 10**6], "tensors.a.b.values must be a whole number from 0 to"),
        (("version",), 2, "version must be 1, not 2"),
    ],
)
def test_the_message_says_where(path: tuple[Any, ...], value: Any, message: str) -> None:
    model, content = sound()
    with pytest.raises(SparseModelError) as error:
        checked(json.dumps(mutated(model, [(path, value, "set")])), content, "m/ops.json")
    assert str(error.value).startswith(f"m/ops.json: {message}")


def test_weights_that_are_not_finite_are_refused() -> None:
    model, content = sound()
    start = model["tensors"]["m.w"]["values"][0]
    broken = content[:start] + np.float32(np.nan).tobytes() + content[start + 4 :]
    with pytest.raises(SparseModelError, match=r"tensors\.m\.w has a value that is not finite"):
        checked(json.dumps(model), broken)


def test_an_absent_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SparseModelError, match=r"ops\.json: cannot be read \(No such file"):
        read_folder(tmp_path / "no")


@pytest.mark.slow
@pytest.mark.skipif(SANITIZED in os.environ, reason="runs inside itself")
def test_under_address_sanitizer(tmp_path: Path) -> None:
    """Run this file, and the geometries of test_sparse_runtime.py, with every access of the engine checked."""
    library = subprocess.run(
        [compiled._compiler(), "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(library).is_absolute():
        pytest.skip("the compiler has no AddressSanitizer")
    here = {
        **os.environ, SANITIZED: "1", "LD_PRELOAD": library, "ASAN_OPTIONS": "detect_leaks=0",
        "ST3SWEEP_SPARSE_CFLAGS": "-O1 -g -fsanitize=address", "ST3SWEEP_TEST_EXAMPLES": "300",
        "PYTHONMALLOC": "malloc",  # so that numpy's arrays have guards around them
    }  # fmt: skip
    beside = Path(__file__).with_name("test_sparse_runtime.py")
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-x", "-p", "no:cacheprovider", __file__, str(beside)]
    done = subprocess.run(
        [*command, "-k", "refused or sound or geometry or pooling"], env=here, capture_output=True, text=True
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
