"""Early stopping rules that account for the Pareto front and the sparsity ramp.

During the ramp a trial is less sparse than it will be, and trials end at different costs. So a trial is judged when it
reaches a *rung*, a fraction of its ramp, against all trials that reached the rung before it, at the cost that each will
have at its end (``gflops_final``). ``ramp_pareto`` ranks by Pareto layer, ``residual`` by the accuracy above what is
usual at that cost. Both never stop a trial on the front of the rung or among the best two of its cost bin. ``asha`` is
the scalar rule, for comparison: it ranks by accuracy alone, at rungs in training progress, without such exceptions.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from st3sweep.early_stopping.rung import Rung
from st3sweep.space.early_stopping import EarlyStoppingConfig

JUDGED = ("progress", "ramp_progress", "val_top1", "gflops", "gflops_final")  # columns that it reads
ROUNDING = 1e-9  # rounding error of fractions such as 3 epochs of 12


@dataclass
class EarlyStopping:
    """State of early stopping: the trials' results at their rungs, a function of the observed records in their order.

    ``counted``: rung → its trials, by error in percent and log gflops.
    """

    config: EarlyStoppingConfig
    seed: int  # breaks ties
    reached: dict[int, int] = field(default_factory=dict)  # trial → number of its last rung, from 0
    ramp_ended: dict[int, float] = field(default_factory=dict)  # trial → training progress when its ramp ended
    counted: dict[int, Rung] = field(default_factory=dict)

    def observe(self, trial: int, record: Mapping[str, Any], *, judge: bool = True) -> bool:
        """Record an epoch (a row of ``runs.tables.EPOCHS``); return whether ``trial`` is to be stopped after it.

        An epoch that passes several rungs counts at each and is judged at the last. A trial without accuracy or cost
        at a rung continues and does not count there. At the end of training no trial is stopped. Without ``judge`` it
        only counts, and the answer is False.
        """
        before, rung = self.reached.get(trial, -1), self._rung_of(trial, record)
        if rung <= before:
            return False
        self.reached[trial] = rung
        point = self._point(record)
        if point is None:
            return False
        for passed in range(before + 1, rung + 1):
            self.counted.setdefault(passed, Rung()).add(trial, (*point, self.tie(trial, passed)))
        return judge and record["progress"] < 1 - ROUNDING and self.stops(rung)

    def rung(self, trial: int) -> int | None:
        """Return the number of the last rung that ``trial`` reached, from 0; None before the first."""
        return self.reached.get(trial)

    def _rung_of(self, trial: int, record: Mapping[str, Any]) -> int:
        """Return the number of the last rung at or below the record's progress, -1 for none."""
        progress, rungs = _number(record.get("progress")), self.config.rungs
        if self.config.name == "none" or progress is None:
            return -1
        ramp = None if self.config.name == "asha" else _number(record.get("ramp_progress"))
        if ramp is None or ramp < 1 - ROUNDING:
            return bisect_right(rungs, (progress if ramp is None else ramp) + ROUNDING) - 1
        after = progress - self.ramp_ended.setdefault(trial, progress)
        return len(rungs) - 1 + math.floor(after / self.config.every + ROUNDING)

    def _point(self, record: Mapping[str, Any]) -> tuple[float, float] | None:
        """Return error and log gflops, with a ramp the final gflops if known; None if either is missing."""
        top1, gflops = _number(record.get("val_top1")), _number(record.get("gflops"))
        if _number(record.get("ramp_progress")) is not None:
            final = _number(record.get("gflops_final"))
            gflops = gflops if final is None else final
        if top1 is None or gflops is None or gflops <= 0:
            return None
        return 100.0 - top1, math.log(gflops)

    def tie(self, trial: int, rung: int) -> float:
        """Return a pseudo-random number in [0, 1), a function of (seed, trial, rung)."""
        digest = hashlib.blake2b(f"{self.seed}:{trial}:{rung}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64

    def stops(self, rung: int) -> bool:
        """Return whether the trial that has just reached the rung is to be stopped."""
        trials = self.counted[rung]
        if len(trials) < self.config.min_trials or (self.config.name != "asha" and trials.is_safe()):
            return False
        return trials.is_below(max(1.0, len(trials) / self.config.reduction_factor), self.config.name)


def _number(value: Any) -> float | None:
    """Return ``value`` as a float if it is a finite number, else None."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
