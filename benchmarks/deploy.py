"""Measure the time of an image on a CPU in dense engines and in the sparse folder.

    python benchmarks/deploy.py [--model mobilenet_v1 resnet50 cifar_resnet] [--sparsity 0.9 0.95]
        [--run FOLDER TRIAL] [--engines torch compiled onnx openvino onnx_int8 openvino_int8 sparse]
        [--threads 1 2] [--batch 1 8] [--rounds 15] [--no-memory] [--json]

Random weights, pruned once by ST-3σ (``packed_sizes.py``), or a trial that was trained. Batch norms are folded for
every engine but torch. A round runs each engine in turn, so that all meet the same noise. Times are of an image, ms:
the least wall time, the median of the process's CPU time, which others disturb less; "times as fast" is the fastest
dense float32 engine's wall time over that of sparse, and in brackets by CPU time. Memory is the peak of a process that
runs only this engine, once. int8 is ONNX Runtime's static quantisation (32 images); OpenVINO runs the same file.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from deploy_engines import INT8, NAMES, TITLES, Array, Run, available, cores, file_size, load, write_int8
from packed_sizes import random_model

from st3sweep.export.engines import Engine, save_onnx
from st3sweep.export.folding import fold_batch_norms, traced
from st3sweep.export.from_run import export, some_images, validation_top1
from st3sweep.export.model_file import rebuilt, save
from st3sweep.export.sparse_folder import save_sparse
from st3sweep.networks import flops
from st3sweep.training.components import register_components

CALLS = 2  # of an engine in a round
REST = 0.01  # s between engines: threads of the last one stop spinning


@dataclass(frozen=True)
class Took:
    """Times of an image in ms, and what else is known of an engine; memory and size in MB, difference of logits."""

    model: str
    sparsity: float
    live_macs: float
    engine: str
    threads: int
    batch: int
    wall: float
    wall_median: float
    cpu: float
    size: float
    memory: float
    difference: float  # from torch's, over the largest logit
    top1: float | None


def write(folder: Path, state: Any, about: dict[str, Any], images: Array) -> torch.nn.Module:
    """Write the files of every engine; return torch's model."""
    model = save(folder / "m.safetensors", state, about)
    graph = fold_batch_norms(traced(model))
    save_sparse(folder / "m.sparse", graph, model, about)
    if available("onnx"):
        save_onnx(folder / "m.onnx", graph, model, about)
        write_int8(folder, images)
    return model


def compared(
    name: str, folder: Path, about: dict[str, Any], model: torch.nn.Module, x: Array, run: tuple[Path, int] | None
) -> tuple[float, float | None]:
    """Return the difference of an engine's logits from torch's, and its accuracy where the model was trained."""
    engine = load(name, folder, 1)
    with torch.inference_mode():
        expected = model(torch.from_numpy(x)).numpy()
    difference = float(np.abs(engine(x) - expected).max() / np.abs(expected).max())
    return difference, validation_top1(Engine(engine), about, *run) if run else None


def memory(name: str, folder: Path, x: Array) -> float:
    np.save(folder / "x.npy", x)
    code = f"import deploy_engines as d; print(d.peak_memory({name!r}, {str(folder)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def timed(ready: dict[str, Run], x: Array, rounds: int) -> dict[str, tuple[float, float, float]]:
    """Return least and median wall time and median CPU time of an image, ms."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ready}
    for number in range(rounds + 1):
        for name, run in ready.items():
            time.sleep(REST)
            for _ in range(CALLS):
                wall, cpu = time.perf_counter(), time.process_time()
                run(x)
                cpu = time.process_time() - cpu
                took = time.perf_counter() - wall
                if number:  # the first round warms up
                    times[name].append((1e3 * took / len(x), 1e3 * cpu / len(x)))
    found = {}
    for name, pairs in times.items():
        walls, cpus = zip(*pairs, strict=True)
        found[name] = (min(walls), statistics.median(walls), statistics.median(cpus))
    return found


def measured(label: str, state: Any, about: dict[str, Any], chosen: argparse.Namespace) -> list[Took]:
    run = (Path(chosen.run[0]), int(chosen.run[1])) if chosen.run else None
    size = about["image_size"]
    model = rebuilt(state, about)
    dense = flops.gflops(flops.layer_costs(model, (about["channels"], size, size)))
    given = some_images(about, *run, count=32) if run else None
    shape = (32, about["channels"], size, size)
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32) if given is None else given.numpy()
    names = [name for name in chosen.engines if available(name)]
    found = []
    with tempfile.TemporaryDirectory() as holder:
        folder = Path(holder)
        model = write(folder, state, about, images)
        known = {name: compared(name, folder, about, model, images[:4], run) for name in names}
        peaks = {name: memory(name, folder, images[:1]) if chosen.memory else float("nan") for name in names}
        sizes = {name: file_size(name, folder) / 1e6 for name in names}
        for threads in chosen.threads:
            ready = {name: load(name, folder, threads) for name in names}
            for batch in chosen.batch:
                x = np.ascontiguousarray(images[:batch])
                for name, (wall, median, cpu) in timed(ready, x, chosen.rounds).items():
                    difference, top1 = known[name]
                    found.append(
                        Took(label, about["sparsity"], about["gflops"] / dense, name, threads, batch, wall, median, cpu,
                             sizes[name], peaks[name], difference, top1)
                    )  # fmt: skip
    return found


def faster(rows: list[Took], field: str) -> float:
    """Return how many times as fast as the fastest dense engine in float32 the sparse one is."""
    dense = [getattr(row, field) for row in rows if row.engine not in (*INT8, "sparse")]
    sparse = [getattr(row, field) for row in rows if row.engine == "sparse"]
    return min(dense) / sparse[0] if dense and sparse else float("nan")


def table(rows: list[Took]) -> str:
    """Return the rows of one model, number of threads and batch."""
    first = rows[0]
    text = [
        f"\n**{first.model}, {100 * first.sparsity:.0f} % zeros, {100 * first.live_macs:.1f} % live MACs; "
        f"threads {first.threads}, batch {first.batch}: {faster(rows, 'wall'):.2f} ({faster(rows, 'cpu'):.2f}) "
        "times as fast**\n",
        "| engine | wall, ms | CPU, ms | file, MB | memory, MB | logits differ | top-1, % |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        top1 = "–" if row.top1 is None else f"{row.top1:.2f}"
        text.append(
            f"| {TITLES[row.engine]} | {row.wall:.2f} | {row.cpu:.2f} | {row.size:.2f} | {row.memory:.0f} "
            f"| {row.difference:.1e} | {top1} |"
        )
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", nargs="+", default=["mobilenet_v1", "resnet50", "cifar_resnet"])
    parser.add_argument("--sparsity", nargs="+", type=float, default=[0.9, 0.95])
    parser.add_argument("--run", nargs=2, metavar=("FOLDER", "TRIAL"), help="a finished trial instead")
    parser.add_argument("--engines", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-memory", dest="memory", action="store_false")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    register_components()
    if chosen.run:
        state, about = export(Path(chosen.run[0]), int(chosen.run[1]))
        models = [(f"{about['model']['arch']}, trained", state, about)]
    else:
        pairs = [(arch, sparsity) for arch in chosen.model for sparsity in chosen.sparsity]
        models = ((arch, *random_model(arch, sparsity, "sigma")) for arch, sparsity in pairs)  # type: ignore[assignment]
    if not chosen.json:
        print(f"{platform.machine()}, {cores()} cores, Python {platform.python_version()}, torch {torch.__version__}")
    for label, state, about in models:
        rows = measured(label, state, about, chosen)
        if chosen.json:
            for row in rows:
                print(json.dumps(asdict(row)), flush=True)
            continue
        for threads in chosen.threads:
            for batch in chosen.batch:
                print(table([row for row in rows if (row.threads, row.batch) == (threads, batch)]), flush=True)


if __name__ == "__main__":
    main()
