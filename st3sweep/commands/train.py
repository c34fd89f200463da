"""Train one trial in this process, without Ray: the same ``fit``, ledger and tables as in a sweep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from st3sweep.data import Splits, load
from st3sweep.runs.folder import lock, trial_folder
from st3sweep.runs.ledger import Ledger, stored
from st3sweep.runs.table_rows import write_tables
from st3sweep.training.loop import Diverged, fit
from st3sweep.training.world import World
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.errors import UserError
from st3sweep.util.text import format_flops


def train_one(settings: TrialSettings, folder: Path, device: str, say: Callable[[str], None]) -> str:
    """Train ``settings`` as trial 0 of the run in ``folder``, resuming it if it is there; return the trial's status."""
    splits = load(settings.data, say)
    world = _world(device)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be made ({error.strerror})") from None
    with lock(folder):
        return _train(settings, folder, world, say, splits)


def _train(settings: TrialSettings, folder: Path, world: World, say: Callable[[str], None], splits: Splits) -> str:
    ledger = Ledger(folder)
    if 0 not in ledger.trials:
        ledger.add_trial(0, {}, workers=1, **stored(settings))
    elif ledger.trials[0].identity != settings.identity():  # not field by field: later versions have more fields
        raise UserError(f"{folder}: holds another trial; choose another --out")
    trial = ledger.trials[0]

    def report(record: dict[str, Any]) -> bool:
        if ledger.add_epoch(0, record):
            say(
                f"epoch {record['epoch']:>4}  sparsity {record['sparsity']:.4f}  {format_flops(record['gflops'])}"
                f"  loss {record['train_loss']:.4f}  val {record['val_top1']:.2f} %  {record['seconds']:.1f} s"
            )
        return False

    if trial.status == "running":
        try:
            result = fit(settings, world, report, trial_folder(folder, 0), splits)
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
            f"{result['sparsity']:.4f}, {format_flops(result['gflops'], of=result['gflops_dense'])}"
        )
    else:
        say(f"{trial.status}: {trial.error}")
    return trial.status


def _world(device: str) -> World:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return World(device=torch.zeros((), device=device).device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {device}: {str(error).splitlines()[0]}") from None
