"""The engines that ``deploy.py`` measures: each loads a model's files and returns what runs its images."""

from __future__ import annotations

import importlib.util
import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Run = Callable[[Array], Any]

INT8 = ("onnx_int8", "openvino_int8")
NAMES = ("torch", "compiled", "onnx", "openvino", *INT8, "sparse")
TITLES = {
    "torch": "torch, eager", "compiled": "torch, compiled", "onnx": "ONNX Runtime", "openvino": "OpenVINO",
    "onnx_int8": "ONNX Runtime, int8", "openvino_int8": "OpenVINO, int8", "sparse": "sparse",
}  # fmt: skip
PACKAGES = {
    "onnx": "onnxruntime", "openvino": "openvino", "onnx_int8": "onnxruntime", "openvino_int8": "openvino",
}  # fmt: skip


def available(name: str) -> bool:
    return name not in PACKAGES or importlib.util.find_spec(PACKAGES[name]) is not None


def file_of(name: str, folder: Path) -> Path | None:
    """Return the file or folder that an engine reads."""
    files = {"onnx": "m.onnx", "openvino": "m.onnx", "sparse": "m.sparse"}
    return folder / "m-int8.onnx" if name in INT8 else folder / files[name] if name in files else None


def file_size(name: str, folder: Path) -> int:
    """Return the bytes of the weights and operations that an engine reads, of torch those of a safetensors file."""
    path = file_of(name, folder) or folder / "m.safetensors"
    files = [path / "ops.json", path / "weights.bin"] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def load(name: str, folder: Path, threads: int) -> Run:
    """Return the engine ``name``, ready to run images (B, C, H, W) on ``threads`` threads."""
    if name in ("torch", "compiled"):
        return _torch(folder, threads, compiled=name == "compiled")
    path = file_of(name, folder)
    if name == "sparse":
        from st3sweep.sparse_runtime.sparse_model import SparseModel

        return SparseModel(path, threads=threads, engine="sparse")
    if name.startswith("onnx"):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda x: session.run(None, {"images": x})[0]
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    model = openvino.Core().compile_model(str(path), "CPU", {**settings, "INFERENCE_PRECISION_HINT": "f32"})
    request = model.create_infer_request()
    return lambda x: request.infer([x])[0]


def _torch(folder: Path, threads: int, *, compiled: bool) -> Run:
    import torch

    from st3sweep.export.model_file import load_exported
    from st3sweep.training.components import register_components

    register_components()
    model, _ = load_exported(folder / "m.safetensors")
    ready: Any = torch.compile(model) if compiled else model

    def run(x: Array) -> Array:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            return ready(torch.from_numpy(x)).numpy()

    return run


def write_int8(folder: Path, images: Array) -> None:
    """Quantise m.onnx statically: weights per channel, activations by the range that ``images`` show."""
    from onnxruntime import quantization as q

    class Images(q.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = [images[i : i + 8] for i in range(0, len(images), 8)]

        def get_next(self) -> dict[str, Array] | None:
            return {"images": self.left.pop()} if self.left else None

    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        q.quantize_static(
            folder / "m.onnx", folder / "m-int8.onnx", Images(), quant_format=q.QuantFormat.QDQ, per_channel=True,
            weight_type=q.QuantType.QInt8, activation_type=q.QuantType.QUInt8, reduce_range=False,
        )  # fmt: skip
    logging.disable(logging.NOTSET)


def peak_memory(name: str, folder: str) -> float:
    """Return the largest memory (MB) of this process, which must be new, once the engine has run x.npy."""
    load(name, Path(folder), 1)(np.load(Path(folder) / "x.npy"))
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan")


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
