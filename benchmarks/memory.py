"""Measure the peak memory of a training step of ResNet-50: dense against ST-3, each in a separate process.

    python benchmarks/memory.py [--batch 4] [--size 64] [--device cpu] [--json]

On a CPU the peak of the resident set, on a GPU that of the allocator. Goal: one extra copy of the prunable weights.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys

import torch
from step import ours, trial
from turns import facts, wait

from st3sweep.networks import build_model
from st3sweep.sparse.method import prunable

SPARSITY = {"dense": {"method": "dense"}, "ST-3": {"method": "st3", "target": 0.9}}


def peak(name: str, batch: int, size: int, device: str) -> dict[str, float]:
    """Return the peak of four steps and the size of the prunable weights, in MB."""
    torch.manual_seed(0)
    spec = trial("resnet50", SPARSITY[name])
    model = build_model(spec.model, 1000, 3).to(device)
    weights = sum(weight.numel() * weight.element_size() for weight in prunable(model).values())
    x = torch.randn(batch, 3, size, size, device=device)
    step = ours(spec, model, x, torch.randint(1000, (batch,), device=device))
    for _ in range(4):
        step()
    wait()
    on_gpu = device.startswith("cuda")
    used = torch.cuda.max_memory_allocated(device) if on_gpu else _resident_peak()
    return {"peak": used / 1e6, "weights": weights / 1e6}


def _resident_peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", choices=list(SPARSITY), help=argparse.SUPPRESS)  # one process's part
    chosen = parser.parse_args()
    if chosen.only:
        print(json.dumps(peak(chosen.only, chosen.batch, chosen.size, chosen.device)))
        return
    found = {}
    for name in SPARSITY:
        command = [sys.executable, __file__, "--only", name, *sys.argv[1:]]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
    extra = found["ST-3"]["peak"] - found["dense"]["peak"]
    copies = extra / found["ST-3"]["weights"]
    if chosen.json:
        print(json.dumps({**facts(chosen.device), "megabytes": found, "copies_of_the_weights": copies}))
        return
    print(f"peak of a step of ResNet-50, batch {chosen.batch} of {chosen.size} pixels")
    print(", ".join(f"{key} {value}" for key, value in facts(chosen.device).items()))
    for name, row in found.items():
        print(f"  {name:<6} {row['peak']:>8.0f} MB")
    print(f"  ST-3 takes {extra:+.0f} MB, {copies:.2f} times the prunable weights ({found['ST-3']['weights']:.0f} MB)")


if __name__ == "__main__":
    main()
