"""A fabricated run with known front, units and outlier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from st3sweep.runs.tables import table_path, write_table

DENSE = 0.0032
# trial, method, sparsity, val_top1, test_top1, gflops. Front by hand: 3, 2, 1, 0. Trial 5 collapsed, 6 failed.
TRIALS = [
    (0, "ST-3", 0.50, 99.0, 98.0, 0.0016),
    (1, "ST-3σ", 0.80, 98.0, 98.5, 0.0008),
    (2, "ST-3σ", 0.90, 96.0, 95.5, 0.0004),
    (3, "ST-3", 0.98, 92.0, 91.0, 0.0001),
    (4, "ST-3", 0.80, 97.0, 96.5, 0.0009),
    (5, "ST-3", 0.70, 10.0, 10.0, 0.0012),
]
FRONT = [3, 2, 1, 0]


def fabricate(run: Path, model: str = "digits_cnn", dataset: str = "digits", dense: float = DENSE) -> Path:
    """Write a run of 6 finished trials and a failed one, of 4 epochs and 3 layers each."""
    run.mkdir(parents=True)
    task: dict[str, Any] = {"model": model, "dataset": dataset}
    trials: list[dict[str, Any]] = []
    epochs: list[dict[str, Any]] = []
    layers: list[dict[str, Any]] = []
    for trial, method, sparsity, val, test, gflops in TRIALS:
        cost = {"gflops": gflops / DENSE * dense, "gflops_dense": dense}
        accuracy = {"val_top1": val, "test_top1": test}
        own = {"trial": trial, "method": method, "sparsity_target": sparsity, "sparsity": sparsity - 0.001}
        trials.append({"status": "finished", **own, **task, **cost, **accuracy})
        for epoch in (4, 2, 1, 3):  # a reader must not rely on the order of rows
            row = {"trial": trial, "epoch": epoch, "sparsity": sparsity * epoch / 4, "val_top1": val - 4 + epoch}
            epochs.append(row)
        for position, layer in enumerate(("stem", "conv", "head")):
            density = (1 - sparsity) * (1.0, 0.5, 2.0)[position]
            layers.append({"trial": trial, "layer": layer, "position": position, "density": density})
    failed = {"trial": 6, "status": "failed", "error": "loss is NaN", "method": "ST-3", "sparsity_target": 0.95}
    trials.append({**failed, **task})
    for name, rows in (("trials", trials), ("epochs", epochs), ("layers", layers)):
        write_table(table_path(run, name), name, rows)
    return run
