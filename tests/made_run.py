"""Write tables of a run that was never trained: made numbers, names that try to break a page, every status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from st3sweep.runs.tables import table_path, write_table

SCRIPT = "</script><script>document.title = 'run by a name'</script><img src=x onerror=\"document.title = 'img'\">"
LONG_ERROR = f"ValueError: {SCRIPT} 'single' \"double\" & <b>" + "x" * 10_000
METHODS = ("ST-3", "ST-3σ", "GMP", SCRIPT)
LAYERS = ("conv1", "stage1.0.conv1", "stage2.0.conv1", "fc")


def made_run(folder: Path, trials: int = 60, epochs: int = 12, model: str = "resnet50") -> Path:
    """Write the three tables of ``trials`` trials to ``folder``, the same in every call; return the folder.

    Trials 3, 5 and 7 were stopped early, failed, and run; 8 repeats 4 with another seed, and 10 is a tie of 9. The
    rest has finished. Costs are those of ResNet-50 on ImageNet, so that published points go with them.
    """
    random = np.random.default_rng(0)
    rows, curves, layers = [], [], []
    for number in range(trials):
        row = _trial(number, random, epochs, model)
        rows.append(row)
        final = row["sparsity_target"]
        for epoch in range(1, row["epochs"] + 1):
            share = epoch / epochs
            top1 = row.get("val_top1", 60.0) * (1 - 0.6 * np.exp(-4 * share))
            curves.append(_epoch(number, epoch, share, final * min(1.0, 1.6 * share), top1, row["gflops_dense"]))
        if row["status"] == "finished":
            layers += [_layer(number, position, name, 1 - final) for position, name in enumerate(LAYERS)]
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in (("trials", rows), ("epochs", curves), ("layers", layers)):
        write_table(table_path(folder, name), name, table)
    return folder


def _trial(number: int, random: np.random.Generator, epochs: int, model: str) -> dict[str, Any]:
    target = float(random.uniform(0.5, 0.98))
    gflops = 4.089 * (1 - target) * float(random.uniform(0.9, 1.6))
    val = 77 - 16 * target**6 + float(random.normal(0, 0.6))
    status = {3: "stopped", 5: "failed", 7: "running"}.get(number, "finished")
    method = METHODS[number % len(METHODS)]
    params = {"sparsity.target": target, "optim.lr": 0.1 * 2.0 ** -(number % 4), "note": f"<i>{number}</i>"}
    row: dict[str, Any] = {
        "trial": number, "status": status, "digest": f"d{4 if number == 8 else number}", "method": method,
        "model": model, "dataset": "imagenet", "seed": 1 if number == 8 else 0, "sparsity_target": target,
        "gflops_dense": 4.089,
        "epochs": epochs if status == "finished" else epochs // 3, "workers": 1, "precision": "fp32",
        "params": json.dumps(params), "spec": "{}", "replicate_of": 4 if number == 8 else None,
    }  # fmt: skip
    if status == "finished":
        row |= {
            "val_top1": val, "test_top1": val - float(random.normal(0.3, 0.2)), "gflops": gflops, "sparsity": target,
            "training_gflops": 1e6, "best_epoch": epochs - 1, "wall_seconds": 60.0 + number,
        }  # fmt: skip
    if status == "failed":
        row |= {"error": LONG_ERROR, "epochs": 0}
    return row


def _epoch(trial: int, epoch: int, share: float, sparsity: float, top1: float, dense: float) -> dict[str, Any]:
    return {
        "trial": trial, "epoch": epoch, "progress": share, "ratio": sparsity, "sparsity": sparsity, "val_top1": top1,
        "threshold": 0.1 * sparsity,
        "gflops": dense * (1 - sparsity), "lr": 0.1, "train_loss": 1.0, "val_loss": 1.1, "at_target": share > 0.6,
        "seconds": 5.0,
    }  # fmt: skip


def _layer(trial: int, position: int, name: str, density: float) -> dict[str, Any]:
    own = min(1.0, density * (2.0 - 0.4 * position))
    macs = 10**8 * (position + 1)
    return {
        "trial": trial, "layer": name, "position": position, "shape": "64x64x3x3", "numel": 36864, "density": own,
        "macs_dense": macs, "macs": macs * own,
    }  # fmt: skip
