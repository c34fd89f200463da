"""One trial in this process, without Ray: the same ``fit``, ledger and tables as in a sweep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from st3sweep.data import DataError, Splits, load
from st3sweep.errors import UserError
from st3sweep.run_folder import lock, trial_folder
from st3sweep.spec import TrialSpec
from st3sweep.sweep.ledger import Ledger
from st3sweep.sweep.run_tables import write_tables
from st3sweep.training.loop import Diverged, fit
from st3sweep.training.world import World


def train_one(spec: TrialSpec, folder: Path, device: str, say: Callable[[str], None]) -> str:
    """Train ``spec`` as trial 0 of the run in ``folder``, resuming what lies there; returns its status."""
    try:
        splits = load(spec.data)
    except DataError as error:
        raise UserError(f"{error.field}: {error.message}") from None
    world = _world(device)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be made ({error.strerror})") from None
    with lock(folder):
        return _train(spec, folder, world, say, splits)


def _train(spec: TrialSpec, folder: Path, world: World, say: Callable[[str], None], splits: Splits) -> str:
    ledger = Ledger(folder)
    if 0 not in ledger.trials:
        ledger.add_trial(0, {}, spec.model_dump(mode="json"), spec.digest(), 1)
    elif ledger.trials[0].spec != spec.model_dump(mode="json"):
        raise UserError(f"{folder}: holds another trial; choose another --out")
    trial = ledger.trials[0]

    def report(record: dict[str, Any]) -> bool:
        if ledger.add_epoch(0, record):
            say(
                f"epoch {record['epoch']:>4}  sparsity {record['sparsity']:.4f}  {1000 * record['gflops']:.4g} MFLOPs"
                f"  loss {record['train_loss']:.4f}  val {record['val_top1']:.2f} %  {record['seconds']:.1f} s"
            )
        return False

    if trial.status == "running":
        try:
            result = fit(spec, world, report, trial_folder(folder, 0), splits)
            ledger.add_done(0, result.pop("status"), result)
        except Diverged as error:
            ledger.add_done(0, "failed", {}, str(error))
    write_tables(folder, ledger)
    ledger.close()
    if trial.status == "finished":
        result = trial.result
        test = "none" if result["test_top1"] is None else f"{result['test_top1']:.2f} %"
        say(
            f"best epoch {result['best_epoch']}: val {result['val_top1']:.2f} %, test {test}, sparsity "
            f"{result['sparsity']:.4f}, {1000 * result['gflops']:.4g} of {1000 * result['gflops_dense']:.4g} MFLOPs"
        )
    else:
        say(f"{trial.status}: {trial.error}")
    say(f"results: {folder / 'trials.parquet'}")
    return trial.status


def _world(device: str) -> World:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return World(device=torch.zeros((), device=device).device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {device}: {str(error).splitlines()[0]}") from None
