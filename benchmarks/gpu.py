"""Check the training core on a GPU and time it: one command for a bare machine, under five minutes.

    python benchmarks/gpu.py [--out gpu.json] [--parts parity,step] [--data CIFAR10_ROOT] [--seconds 280]
    python benchmarks/gpu.py --device cpu --quick     # runs every part on something small, to test the script itself

Needs torch, numpy and pydantic; neither Ray nor an installation. Images are made on the spot unless ``--data`` names
CIFAR-10. Each part may fail by itself; none starts once ``--seconds`` have passed. Prints a table and writes the JSON.
Times of whole recipes are extrapolated from the timed epochs, and say so.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from gpu_trials import (
    Rows,
    Run,
    Training,
    fit_in,
    fitted,
    images,
    milliseconds,
    no_synchronisation,
    small,
    small_images,
    trial,
    wait,
)

# isort: split
import torch
import torch.nn.functional as F
from settings import METHODS

from st3sweep import data
from st3sweep.networks import build_model
from st3sweep.sparse.threshold import global_threshold
from st3sweep.training.components import register_components
from st3sweep.training.loop import fit
from st3sweep.training.numerics import numerics, with_precision_of
from st3sweep.trial.data import DataConfig
from st3sweep.trial.settings import TrialSettings

DENSE, ST3, ST3_SIGMA = (
    {"method": "dense"},
    {"method": "st3", "target": 0.9},
    {"method": "st3", "target": 0.9, "criterion": "sigma"},
)


# -- checks -------------------------------------------------------------------------------------------------------


def parity(run: Run) -> Rows:
    """Train every method on the CPU and on the device: the sparsity must agree, the losses nearly."""
    found, splits = {}, small_images()
    for name, sparsity in METHODS[:: 6 if run.quick else 1]:
        spec = small(run, sparsity, epochs=1, finetune_epochs=0)
        ours, cpu = (fitted(spec, torch.device(where), splits)[-1] for where in (run.device, "cpu"))
        limit = 0.02 if sparsity["method"] in ("probmask", "str") else 1e-3  # a mask that is drawn; a learnt threshold
        found[name] = {
            "loss": abs(ours[0] / cpu[0] - 1),
            "sparsity": abs(ours[2] - cpu[2]),
            "ok": abs(ours[0] / cpu[0] - 1) < 0.03 and abs(ours[2] - cpu[2]) <= limit,
        }
    return found


def threshold(run: Run) -> Rows:
    """Compare the threshold with a sort in float64 positions, without synchronisation; time it at 25.5 million."""
    found: Rows = {}
    torch.manual_seed(0)
    for count in (1, 7, 1000, 100_003, 10_000 if run.quick else 25_500_000):
        for kind in ("normal", "ties", "zeros"):
            row = torch.randn(count, device=run.device)
            row = {"normal": row, "ties": (row * 4).round() / 4, "zeros": row.relu()}[kind]
            ordered = row.abs().sort().values
            for ratio in (0.0, 0.3, 0.5, 0.9, 0.99):
                held = torch.tensor(ratio, dtype=torch.float64, device=run.device)
                global_threshold([row], held)  # first calls may allocate and compile
                wait(run)
                with no_synchronisation(run):
                    tau = global_threshold([row], held)
                place = (count - 1) * ratio
                low, high = ordered[int(place)], ordered[min(int(place) + 1, count - 1)]
                expected = torch.lerp(low, high, place - int(place))
                if not torch.equal(tau.float(), expected):
                    found[f"{kind}, {count:,} at {ratio}"] = {"ok": False, "tau": float(tau), "sort": float(expected)}
    found |= {"wrong cases": len(found), "cases": 75}
    row, ratio = torch.randn(count, device=run.device), torch.tensor(0.9, dtype=torch.float64, device=run.device)
    found[f"{count:,} weights"] = milliseconds(run, lambda: global_threshold([row], ratio))
    found["sorting them"] = milliseconds(run, lambda: row.abs().sort())
    return found


def graph(run: Run) -> Rows:
    """Train by recorded and by eager steps, with deterministic kernels: equal to the bit, and nothing synchronises."""
    found, splits = {}, small_images()
    for name, sparsity in METHODS[:: 6 if run.quick else 2]:
        eager, recorded = (
            fitted(small(run, sparsity, deterministic=True, graph=how), run.device, splits) for how in ("off", "auto")
        )
        found[name] = {"ok": eager == recorded, "loss": recorded[-1][0], "eager": eager[-1][0]}
    training = Training(run, small(run, ST3), splits)
    for _ in range(6):
        training.step()
    with no_synchronisation(run):
        for _ in range(5):
            training.step()
    found["steps of ST-3"] = {"recorded": training.steps.recordings, "replayed": training.steps.replayed}
    return found


def resume(run: Run) -> Rows:
    """Stop after each epoch and continue: with deterministic kernels, equal to the bit."""
    found, splits = {}, small_images()
    for name, sparsity in (("ST-3", ST3), ("RigL", {"method": "rigl", "target": 0.8})):
        spec = small(run, sparsity, deterministic=True)
        whole = fitted(spec, run.device, splits)
        with tempfile.TemporaryDirectory() as folder:
            for epoch in (1, 2):
                fit_in(Path(folder), spec, run.device, splits, epoch)
            parts = fit_in(Path(folder), spec, run.device, splits)
        found[name] = {"ok": whole == parts, "whole": whole[-1], "parts": parts[-1]}
    return found


def out_of_memory(run: Run) -> Rows:
    """Ask for more memory than there is; the next training must work."""
    if not run.on_gpu:
        return {"skipped": "on a CPU"}
    try:
        torch.empty(2**42, device=run.device)
        return {"ok": False, "found": "no error"}
    except torch.OutOfMemoryError:
        gc.collect()
        torch.cuda.empty_cache()
    loss = fitted(small(run, ST3, epochs=1, finetune_epochs=0), run.device, small_images())[-1][0]
    return {"ok": loss == loss, "loss afterwards": loss}


# -- times --------------------------------------------------------------------------------------------------------


def plain(run: Run, spec: TrialSettings, splits: data.Splits, batch: int, compiled: bool) -> Callable[[], None]:
    """Return a step of a tutorial's loop in bfloat16, on one batch."""
    model = build_model(spec.model, splits.num_classes, 3).to(run.device)
    forward: Callable[..., Any] = model
    if compiled:
        forward = torch.compile(model.to(memory_format=torch.channels_last), dynamic=False)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    x = torch.randn(batch, *splits.image_shape(), device=run.device)
    x, y = x.contiguous(memory_format=torch.channels_last) if compiled else x, torch.zeros(batch).long().to(run.device)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(run.device.type, torch.bfloat16, enabled=run.on_gpu):
            output = forward(x)
        F.cross_entropy(output.float(), y).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 3.0)
        optimizer.step()

    return step


def step(run: Run) -> Rows:
    """Time steps of ResNet-20 and ResNet-50: plain loops, and ours, eager and recorded, dense and sparse."""
    cases = [("ResNet-20, batch 128", {"arch": "cifar_resnet"}, 32, 128)]
    cases += [(f"ResNet-50, batch {batch}", {"arch": "resnet50"}, 224, batch) for batch in (64, 256)]
    if run.quick:
        cases = [("ResNet-8, batch 32", {"arch": "cifar_resnet", "depth": 8, "width": 4}, 32, 32)]
    found: Rows = {}
    for title, model, size, batch in cases:
        splits = images(4 * batch, size)
        made: dict[str, Callable[[], Callable[[], None]]] = {}
        spec = trial(DENSE, model=model, train={"batch_size": batch})
        made["plain eager"] = lambda: plain(run, spec, splits, batch, compiled=False)  # noqa: B023
        if not run.quick and batch <= 128:  # compiling takes a minute
            made["plain compiled"] = lambda: plain(run, spec, splits, batch, compiled=True)  # noqa: B023
        for name, sparsity in (("dense", DENSE), ("ST-3", ST3), ("ST-3σ", ST3_SIGMA)):
            for how in ("off", "auto") if name != "ST-3σ" else ("auto",):
                train = {"batch_size": batch, "graph": how}
                mine = trial(sparsity, model=model, train=train)
                label = f"{name}, {'eager' if how == 'off' else 'graph'}"
                made[label] = lambda mine=mine: Training(run, mine, splits).step  # type: ignore[misc]  # noqa: B023
        for name, make in made.items():
            try:
                with numerics(with_precision_of(run.device, spec), run.device):
                    found[f"{title}: {name}"] = milliseconds(run, make(), steps=20 if size == 32 else 5)
            except Exception as error:  # another competitor may work
                found[f"{title}: {name}"] = {"ok": False, "error": _one_line(error)}
            gc.collect()
            if run.on_gpu:
                torch.cuda.empty_cache()
    return found


def epoch(run: Run) -> Rows:
    """Time epochs of ResNet-20 with ``fit``, validation and checkpoints included."""
    epochs, splits = (2, images(512, 32)) if run.quick else (14, images(45_000, 32))
    if run.data is not None:
        splits = replace(data.load(DataConfig.parse({"dataset": "cifar10", "root": run.data})), test=None)
    found: Rows = {}
    for name, sparsity in (("dense", DENSE), ("ST-3", ST3)):
        model = {"depth": 8, "width": 4} if run.quick else {}
        spec = trial(sparsity, model=model, train={"epochs": epochs, "batch_size": 128})
        ends = [time.perf_counter()]
        with tempfile.TemporaryDirectory() as folder:
            fit(spec, run.world, lambda _, ends=ends: bool(ends.append(time.perf_counter())), Path(folder), splits)  # type: ignore[misc]
        seconds = [later - earlier for earlier, later in pairwise(ends)][min(4, epochs - 1) :]
        median = statistics.median(seconds)
        found[name] = {"s": median, "from": min(seconds), "to": max(seconds), "epochs": len(seconds)}
        if len(seconds) >= 10:
            found[f"{name}, 160 epochs, extrapolated"] = {"min": 160 * median / 60}
    return found


def at_once(run: Run) -> Rows:
    """Time steps of several trials that take turns in one process, each in its own stream."""
    found: Rows = {}
    splits = images(512, 32)
    model = {"depth": 8, "width": 4} if run.quick else {}
    for count in (1, 2) if run.quick else (1, 2, 4, 8):
        trainings = [
            Training(run, trial({**ST3}, model=model, seed=seed, train={"batch_size": 128}), splits)
            for seed in range(count)
        ]

        def together(trainings: list[Training] = trainings) -> None:
            for training in trainings:
                training.step()

        one = milliseconds(run, together)
        found[f"{count} at once"] = {
            **one,
            "ms a step": one["ms"] / count,
            "s an epoch, extrapolated": 0.351 * one["ms"],
        }
    return found


PARTS: dict[str, Callable[[Run], Rows]] = {
    part.__name__: part for part in (threshold, graph, resume, out_of_memory, epoch, at_once, step, parity)
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--seconds", type=float, default=280.0)
    chosen = parser.parse_args()
    register_components()
    run = Run(torch.device(chosen.device), chosen.quick, chosen.data)
    if chosen.quick:
        torch.set_num_threads(1)
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    device = torch.cuda.get_device_name(run.device) if run.on_gpu else platform.processor() or "CPU"
    found: Rows = {"device": device, **versions, "quick": run.quick, "parts": {}}
    print(f"{device}, {', '.join(f'{key} {value}' for key, value in versions.items())}", flush=True)
    started, failed = time.perf_counter(), 0
    for name in chosen.parts.split(","):
        began = time.perf_counter()
        try:
            with warnings.catch_warnings(record=True) as said:
                rows = PARTS[name](run) if began - started < chosen.seconds else {"skipped": "no time left"}
            if said:
                rows["warnings"] = sorted({_one_line(warning.message) for warning in said})
        except Exception as error:
            rows = {"ok": False, "error": _one_line(error)}
        failed += any(isinstance(row, dict) and row.get("ok") is False for row in [rows, *rows.values()])
        found["parts"][name] = {"seconds": time.perf_counter() - began, **rows}
        chosen.out.write_text(
            json.dumps(found, indent=1)
        )  # what is there already stays if a later part ends the process
        show(name, found["parts"][name])
    print(f"{time.perf_counter() - started:.0f} s in all; {failed} parts with failures; written to {chosen.out}")
    return int(failed > 0)


def show(name: str, rows: Rows) -> None:
    print(f"{name}  ({rows['seconds']:.1f} s)")
    for key, value in rows.items():
        if key == "seconds":
            continue
        shown = value if isinstance(value, dict) else {"": value}
        parts = (f"{k} {v:.4g}".strip() if isinstance(v, float) else f"{k} {v}".strip() for k, v in shown.items())
        print(f"  {key:<44} {'  '.join(parts)}", flush=True)


def _one_line(error: Any) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


if __name__ == "__main__":
    raise SystemExit(main())
