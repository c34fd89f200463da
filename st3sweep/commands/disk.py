"""Describe how much disk a sweep's checkpoints need, and how ``resources.checkpoints`` changes that."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable

from st3sweep.space.space import Space
from st3sweep.training.checkpoint_size import CheckpointSize, checkpoint_size
from st3sweep.training.saver import best_interval
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.text import format_bytes


def disk(space: Space, trials: Iterable[TrialSettings], classes: int, channels: int) -> str:
    """Return the fact for the plan: bytes of a trial, of all trials by the run's setting, and by the other settings.

    ``trials`` are sampled; the largest of each kind of model and method counts. Replicates come on top.
    """
    size = _largest(trials, classes, channels)
    kept, count = space.config.resources.checkpoints, space.expected_trials()
    said = [_kept(setting, size, count, space) for setting in sorted(("finished", "front", "all"), key=kept.__ne__)]
    every = _interval(size.last, space.config.resources.seconds_between_losses)
    return f"{format_bytes(size.all)} a running trial; with checkpoints: {'; '.join(said)}{every}"


def _interval(size: int, seconds_between_losses: float | None) -> str:
    """Describe how often a trial saves within an epoch, after writing a file of a checkpoint's ``size`` here."""
    if seconds_between_losses is None:
        return ""
    with tempfile.TemporaryFile() as file:
        began = time.perf_counter()
        file.write(bytes(size))
        file.flush()
        os.fsync(file.fileno())
        took = time.perf_counter() - began
    every = best_interval(took, seconds_between_losses)
    losses = f"a machine is lost every {seconds_between_losses / 3600:.2f} h"
    return f"; one within an epoch every {every:.1f} s, if it takes {took:.4f} s as here and {losses}"


def _largest(trials: Iterable[TrialSettings], classes: int, channels: int) -> CheckpointSize:
    """Return the largest checkpoints among ``trials``, which are measured once for each kind of model and method."""
    kinds = {
        (one.model, one.sparsity.method, bool(one.train.finetune_epochs), bool(one.optim.momentum)): one
        for one in trials
    }
    sizes = [checkpoint_size(one, classes, channels) for one in kinds.values()]
    return CheckpointSize(max(size.last for size in sizes), max(size.best for size in sizes))


def _kept(setting: str, size: CheckpointSize, count: int | None, space: Space) -> str:
    if setting == "front":
        return f"front {format_bytes(size.best)} a trial of the front"
    stops = space.config.early_stopping.name != "none"
    each = size.all if setting == "all" else size.best
    most = size.last + size.best if setting == "finished" and stops else each
    text = f"{setting} {format_bytes(each)} a trial"
    if most > each:
        text += f", {format_bytes(most)} if stopped early"
    return text if count is None else f"{text}, {'at most ' if most > each else ''}{format_bytes(most * count)} in all"
