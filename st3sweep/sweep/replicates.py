"""Choose the trial to repeat with another seed: on or near the front, in rounds, so that all get equally many."""

from __future__ import annotations

import itertools

from st3sweep.pareto import pareto_mask
from st3sweep.runs.ledger import Ledger, Trial
from st3sweep.space.resources import Replicates
from st3sweep.trial.settings import SEEDS


def next_replicate(ledger: Ledger, replicates: Replicates) -> tuple[Trial, int] | None:
    """Return the trial to repeat and its new seed; None when all have ``replicates.seeds``, failed ones included.

    Only the search's own trials decide which are repeated: the result of a replicate does not change the choice.
    """
    repeats: dict[int, int] = {}
    for trial in ledger.trials.values():
        if trial.replicate_of is not None:
            repeats[trial.replicate_of] = repeats.get(trial.replicate_of, 0) + 1
    for done in range(replicates.seeds - 1):
        for trial in members(ledger, replicates.near):
            if repeats.get(trial.number, 0) <= done:
                return trial, _next_seed(ledger, trial)
    return None


def _next_seed(ledger: Ledger, trial: Trial) -> int:
    """Return the first seed after the trial's own that no trial of the same digest has; seeds may be searched too."""
    taken = {other.seed for other in ledger.trials.values() if other.digest == trial.digest}
    seeds = (seed % SEEDS for seed in itertools.count(trial.seed + 1))
    return next(seed for seed in seeds if seed not in taken)


def members(ledger: Ledger, near: float) -> list[Trial]:
    """Return finished trials on the front of val_top1 and gflops or at most ``near`` points below; cheapest first."""
    trials = [t for t in ledger.trials.values() if t.may_be_on_front]
    points = [(t.result["val_top1"], t.result["gflops"]) for t in trials]
    mask = pareto_mask(points, ("max", "min"))
    front = [point for point, on_front in zip(points, mask, strict=True) if on_front]
    chosen = [
        trial
        for trial, (top1, gflops) in zip(trials, points, strict=True)
        if (top1, gflops) in front or (near and top1 >= max(a for a, cost in front if cost <= gflops) - near)
    ]
    return sorted(chosen, key=lambda trial: trial.result["gflops"])
