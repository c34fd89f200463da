"""Compute learning rate and weight decay of each step from a trial's settings."""

from __future__ import annotations

from st3sweep.trial.fields import fraction
from st3sweep.trial.optim import StepSchedule
from st3sweep.trial.schedules import cosine, step_decay, warm_up, weight_decay_by_target, weight_decay_with_sparsity
from st3sweep.trial.settings import TrialSettings


def learning_rate(trial: TrialSettings, step: int, total_steps: int) -> float:
    """Return the learning rate of ``step`` (from 0) of ``total_steps``; past the end, that of fine-tuning."""
    if step >= total_steps:
        return trial.train.finetune_lr or trial.optim.lr / 100
    schedule, epochs = trial.optim.schedule, trial.train.epochs
    progress = step / total_steps
    warmup = fraction(schedule.warmup, epochs)
    if isinstance(schedule, StepSchedule):
        milestones = [fraction(time, epochs) for time in schedule.milestones]
        factor = step_decay(progress, milestones, schedule.gamma)
    else:
        factor = cosine(progress, start=warmup, final=schedule.final_ratio)
    return trial.optim.lr * factor * warm_up((step + 1) / total_steps, warmup)


def weight_decay(trial: TrialSettings, step: int, total_steps: int, share_of_target: float) -> float:
    """Return the weight decay of ``step``; ``share_of_target`` is the scheduled sparsity over its target, 0 to 1."""
    decay = trial.optim.weight_decay
    if decay.kind == "by_target":
        return weight_decay_by_target(trial.model.label, trial.sparsity.final_sparsity or 0.0)
    if decay.kind == "with_sparsity":
        return weight_decay_with_sparsity(decay.value, decay.final_ratio, share_of_target)
    if decay.kind == "cosine":
        return decay.value * cosine(min(1.0, step / total_steps), final=decay.final_ratio)
    return decay.value
