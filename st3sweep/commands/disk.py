"""Describe how much disk a sweep's checkpoints need, and how ``resources.checkpoints`` changes that."""

from __future__ import annotations

from collections.abc import Iterable

from st3sweep.space.space import Space
from st3sweep.training.checkpoint_size import CheckpointSize, checkpoint_size
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.text import format_bytes


def disk(space: Space, trials: Iterable[TrialSettings], classes: int, channels: int) -> str:
    """Return the fact for the plan: bytes of a trial, of all trials by the run's setting, and by the other settings.

    ``trials`` are sampled; the largest of each kind of model and method counts. Replicates come on top.
    """
    size = _largest(trials, classes, channels)
    kept, count = space.config.resources.checkpoints, space.expected_trials()
    said = [_kept(setting, size, count, space) for setting in sorted(("finished", "front", "all"), key=kept.__ne__)]
    return f"{format_bytes(size.all)} a running trial; with checkpoints: {'; '.join(said)}"


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
