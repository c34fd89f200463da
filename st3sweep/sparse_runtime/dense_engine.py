"""Find out whether a dense engine is the faster for a model, and run ONNX Runtime where it is."""

from __future__ import annotations

import importlib
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from st3sweep.sparse_runtime.model_folder import Model
from st3sweep.sparse_runtime.onnx_model import onnx_model
from st3sweep.sparse_runtime.tuning import written

BREAK_EVEN = 0.45  # live MACs of dense ones at which ONNX Runtime is about as fast (MobileNetV1, AVX2)
WORTH_MEASURING = 0.25  # from here on
TOLERANCE = 1e-4  # of the largest logit
ROUNDS = 5

Array = np.ndarray[Any, Any]
Run = Callable[[Array], Array]


def live_macs(model: Model) -> float:
    """Return the multiply-accumulates of ``model`` that are not with zero, over all of them."""
    live = dense = 0
    for position, op in enumerate(model.ops):
        if "weight" in op:
            pixels = math.prod(model.shapes[position + 1][1:])
            live += int(np.count_nonzero(model.tensors[op["weight"]])) * pixels
            dense += model.tensors[op["weight"]].size * pixels
    return live / max(1, dense)


def onnx_session(model: Model, threads: int) -> Run | None:
    """Return ``model`` in ONNX Runtime; None where that is not installed or cannot run it."""
    try:
        runtime = importlib.import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        session = runtime.InferenceSession(onnx_model(model), options, providers=["CPUExecutionProvider"])
    except Exception:  # whatever is amiss with it, there is an engine without it
        return None

    def run(images: Array) -> Array:
        logits: Array = session.run(None, {"images": images})[0]
        return logits

    return run


def version() -> str:
    """Return ONNX Runtime's version; "" where it is not installed."""
    try:
        return str(importlib.import_module("onnxruntime").__version__)
    except ImportError:
        return ""


def times(path: Path, sparse: Run, dense: Run | None, shape: tuple[int, ...]) -> tuple[float, float]:
    """Return the least seconds of an image in both engines, from ``path`` if they are there.

    The second is infinite where there is no dense engine, or its logits differ.
    """
    try:
        first, second = json.loads(path.read_text(encoding="utf-8"))
        return float(first), float(second)
    except (OSError, ValueError, TypeError):
        pass
    if dense is None:
        return math.nan, math.inf
    image = np.random.default_rng(0).standard_normal((1, *shape), np.float32)
    expected, found = sparse(image), dense(image)
    if not np.abs(found - expected).max() <= TOLERANCE * max(1e-3, float(np.abs(expected).max())):
        return math.nan, math.inf
    least = [math.inf, math.inf]
    for _ in range(ROUNDS):
        for number, run in enumerate((sparse, dense)):
            for _ in range(2):  # the second finds its own data in the cache
                start = time.perf_counter()
                run(image)
                least[number] = min(least[number], time.perf_counter() - start)
    written(path, json.dumps(least))
    return least[0], least[1]


def remark(live: float, sparse: float, dense: float, installed: bool) -> str:
    """Say which engine runs and why, in a line."""
    share = f"{100 * live:.0f} % of the multiply-accumulates are not with zero"
    if math.isinf(dense):
        slower = live / BREAK_EVEN
        if installed or slower <= 1:
            return ""
        return (
            f"{share}: this engine is about {slower:.1f} times slower than a dense one (estimated); "
            "install onnxruntime, and it runs instead"
        )
    if sparse <= dense:
        return ""
    return (
        f"{share}: runs in ONNX Runtime ({1e3 * dense:.3g} ms an image), "
        f"because skipping zeros is {sparse / dense:.2f} times slower ({1e3 * sparse:.3g} ms)"
    )
