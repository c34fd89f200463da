"""Train a finished trial of a run again and compare the results number by number."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from st3sweep.commands.train import train_one
from st3sweep.runs.finished_trial import finished_trial
from st3sweep.runs.folder import PROVENANCE
from st3sweep.runs.ledger import Ledger, Trial
from st3sweep.runs.provenance import provenance
from st3sweep.util.errors import UserError

COMPARED = ("val_top1", "test_top1", "sparsity", "gflops", "best_epoch")


def reproduce(
    run: Path, number: int, out: Path, device: str, say: Callable[[str], None], *, allow_changed_plugins: bool = False
) -> list[tuple[str, Any, Any]]:
    """Train trial ``number`` of ``run`` again in the folder ``out``; return (name, recorded, now) for each number.

    The same versions on the same kind of device give bit-identical numbers; ``say`` reports versions and hardware that
    differ. Raises UserError if the trial is not finished, was trained by several workers (which sum in another order)
    or by another version of st3sweep, or if ``out`` already holds a result.
    """
    trial, settings = finished_trial(run, number, allow_changed=allow_changed_plugins)
    if trial.workers > 1:
        raise UserError(f"{run}: trial {number} was trained by {trial.workers} workers; reproduce trains it with one")
    if any(done.status != "running" for done in Ledger(out, read_only=True).trials.values()):
        raise UserError(f"{out}: holds a result already; choose another folder with --out")
    for line in _other_surroundings(run):
        say(line)
    if (threads := _threads(run)) is not None:
        torch.set_num_threads(threads)
    train_one(settings, out, device, say)
    return list(_compared(trial, Ledger(out, read_only=True).trials[0]))


def _compared(before: Trial, now: Trial) -> list[tuple[str, Any, Any]]:
    rows = [(name, before.result.get(name), now.result.get(name)) for name in COMPARED]
    losses = [
        (f"train_loss, epoch {epoch}", before.epochs[epoch]["train_loss"], now.epochs[epoch]["train_loss"])
        for epoch in sorted(set(before.epochs) & set(now.epochs))
    ]
    differing = next((row for row in losses if row[1] != row[2]), losses[-1] if losses else None)
    return [*rows, *([differing] if differing else [])]


def _threads(run: Path) -> int | None:
    """Return the threads of each of a sweep's workers, which decide the last bits of sums; None: torch's default."""
    space = Ledger(run, read_only=True).space
    return None if space is None else int(space.get("resources", {}).get("cpus_per_worker", 1))


def _other_surroundings(run: Path) -> list[str]:
    """Describe what differs from the recorded run: code, Python, the packages that compute, the processor."""
    try:
        then, now = json.loads((run / PROVENANCE).read_text()), provenance(None)
    except (OSError, ValueError):
        return [f"{run / PROVENANCE}: cannot be read; versions are not compared"]
    before = _facts(then)
    facts = [(name, before[name], value) for name, value in _facts(now).items() if name in before]
    return [f"{name}: {before} then, {value} now" for name, before, value in facts if before != value]


def _facts(record: dict[str, Any]) -> dict[str, Any]:
    recorded = record["packages"]  # of an earlier version: without timm
    packages = {name: recorded[name] for name in ("torch", "torchvision", "timm", "numpy") if name in recorded}
    return {
        "commit": (record["git"] or {}).get("commit"),
        "python": record["python"],
        "processor": record["host"]["processor"],
        **packages,
    }
