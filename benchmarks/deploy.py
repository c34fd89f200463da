"""Measure the time of an image on a CPU: torch, ONNX Runtime where it is installed, and the sparse folder.

    python benchmarks/deploy.py [--rounds 15] [--model mobilenet_v1 resnet50 cifar_resnet] [--sparsity 0.9 0.95]

Batch 1, one thread. Random weights, pruned once by ST-3σ (``packed_sizes.py``), batch norms folded for ONNX Runtime and
the folder. A round runs each engine in turn, so that all meet the same noise. The table has the median of the
thread's CPU time, ms, which other processes disturb less than wall time, and in brackets the least wall time.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from packed_sizes import random_model

from st3sweep.export.engines import save_onnx
from st3sweep.export.folding import fold_batch_norms, traced
from st3sweep.export.model_file import rebuilt
from st3sweep.export.sparse_folder import save_sparse
from st3sweep.networks import flops
from st3sweep.sparse_runtime.sparse_model import SparseModel
from st3sweep.training.components import register_components

CALLS = 3  # of an engine in a round

Run = Callable[[], Any]


def engines(arch: str, sparsity: float, folder: Path) -> tuple[dict[str, Run], dict[str, Any]]:
    """Return the engines ready to run an image, by name, and what is known of the model."""
    state, about = random_model(arch, sparsity, "sigma")
    model = rebuilt(state, about)
    size = about["image_size"]
    about["gflops_dense"] = flops.gflops(flops.layer_costs(model, (3, size, size)))
    x = np.random.default_rng(0).normal(size=(1, 3, size, size)).astype(np.float32)
    images = torch.from_numpy(x)

    def eager() -> None:
        with torch.inference_mode():
            model(images)

    ready: dict[str, Run] = {"torch": eager}
    graph = fold_batch_norms(traced(model))
    if all(importlib.util.find_spec(package) for package in ("onnx", "onnxscript", "onnxruntime")):
        import onnxruntime

        save_onnx(folder / "m.onnx", graph, model, about)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(folder / "m.onnx", options, providers=["CPUExecutionProvider"])
        ready["onnx"] = lambda: session.run(None, {"images": x})
    _, about["difference"] = save_sparse(folder / "m.sparse", graph, model, about)
    sparse = SparseModel(folder / "m.sparse")
    ready["sparse"] = lambda: sparse(x)
    return ready, about


@dataclass(frozen=True)
class Took:
    """Times of an image in ms: median of CPU time, least wall time."""

    cpu: float
    wall: float


def measured(ready: dict[str, Run], rounds: int) -> dict[str, Took]:
    """Return the times of each engine."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ready}
    for number in range(rounds + 1):
        for name, run in ready.items():
            for _ in range(CALLS):
                wall, cpu = time.perf_counter(), time.thread_time()
                run()
                took = 1e3 * (time.thread_time() - cpu), 1e3 * (time.perf_counter() - wall)
                if number:  # the first round warms up
                    times[name].append(took)
    return {
        name: Took(statistics.median(cpu for cpu, _ in took), min(wall for _, wall in took))
        for name, took in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", nargs="+", default=["mobilenet_v1", "resnet50", "cifar_resnet"])
    parser.add_argument("--sparsity", nargs="+", type=float, default=[0.9, 0.95])
    parser.add_argument("--rounds", type=int, default=15)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    register_components()
    print(f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}")
    print("| model | sparsity | live MACs | torch | ONNX Runtime | sparse | times as fast |")
    print("|---|---|---|---|---|---|---|")
    for arch in chosen.model:
        for sparsity in chosen.sparsity:
            with tempfile.TemporaryDirectory() as folder:
                ready, about = engines(arch, sparsity, Path(folder))
                times = measured(ready, chosen.rounds)
            cells = []
            for name in ("torch", "onnx", "sparse"):
                took = times.get(name)
                cells.append(f"{took.cpu:.2f} ({took.wall:.2f})" if took else "–")
            live = 100 * about["gflops"] / about["gflops_dense"]
            faster = min(took.cpu for name, took in times.items() if name != "sparse") / times["sparse"].cpu
            row = [arch, f"{100 * sparsity:.0f} %", f"{live:.1f} %", *cells, f"{faster:.2f}"]
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
