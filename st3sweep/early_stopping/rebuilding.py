"""Rebuild the state of early stopping from recorded epochs, for a run that is resumed.

Observing each epoch would give the same state, in seconds for ten thousand trials. Most epochs reach no rung, and those
that do are found for a whole block of the tables at once; each rung is then built from all of its trials.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from st3sweep.early_stopping.rules import JUDGED, ROUNDING, EarlyStopping
from st3sweep.early_stopping.rung import Entry, Rung

COLUMNS = ("trial", *JUDGED)
Block = Mapping[str, NDArray[Any]]  # a column by its name, NaN where a value is missing


def rebuild(made: EarlyStopping, blocks: Iterable[Block], judged: Container[int]) -> set[int]:
    """Have ``made``, which has observed nothing, observe blocks of epochs in order of arrival.

    Returns the trials among ``judged`` that it would have stopped: each is judged among those that came before it.
    """
    arrived: dict[int, list[tuple[int, Entry, bool]]] = defaultdict(list)  # by rung: trial, entry, whether it is judged
    for block in blocks:
        rows, before, rungs = _reaching(made, block)
        columns = (block["trial"][rows], before, rungs, *_points(block, rows), block["progress"][rows] < 1 - ROUNDING)
        for trial, last, rung, error, gflops, goes_on in zip(*(column.tolist() for column in columns), strict=True):
            made.reached[trial] = rung
            if gflops > 0:
                cost, is_judged = math.log(gflops), goes_on and trial in judged
                for passed in range(last + 1, rung + 1):
                    entry = (error, cost, made.tie(trial, passed))
                    arrived[passed].append((trial, entry, is_judged and passed == rung))
    stopped = set()
    for rung, trials in arrived.items():
        first = next((place for place, (*_, is_judged) in enumerate(trials) if is_judged), len(trials))
        made.counted[rung] = Rung.of({trial: entry for trial, entry, _ in trials[:first]})
        for trial, entry, is_judged in trials[first:]:
            made.counted[rung].add(trial, entry)
            if is_judged and made.stops(rung):
                stopped.add(trial)
    return stopped


def _points(block: Block, rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return error in percent and gflops of each row, 0 where either is missing, as ``EarlyStopping`` does for one."""
    top1, gflops, final = (block[name][rows] for name in ("val_top1", "gflops", "gflops_final"))
    cost = np.where(np.isfinite(block["ramp_progress"][rows]) & np.isfinite(final), final, gflops)
    return 100.0 - top1, np.where(np.isfinite(top1) & np.isfinite(cost), cost, 0.0)


def _reaching(made: EarlyStopping, block: Block) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows at which trials reach a rung, the trials' last rungs before (-1 for none), and the rungs."""
    order = np.argsort(block["trial"], kind="stable")
    trials, group = np.unique(block["trial"][order], return_inverse=True)
    known = np.array([made.reached.get(trial, -1) for trial in trials.tolist()], dtype=np.int64)[group]
    rungs = np.maximum(_rungs(made, block)[order], -1)
    # The highest so far of each trial, in one pass: the rungs of a trial are shifted above those of the one before.
    height = int(rungs.max(initial=0)) + int(known.max(initial=0)) + 2
    highest = np.maximum.accumulate(np.maximum(rungs, known) + group * height) - group * height
    before = np.where(np.diff(group, prepend=-1) > 0, known, np.roll(highest, 1))
    found = np.flatnonzero(rungs > before)
    found = found[np.argsort(order[found])]
    return order[found], before[found], rungs[found]


def _rungs(made: EarlyStopping, block: Block) -> NDArray[np.int64]:
    """Return the number of the last rung at or below the progress of each row, as ``EarlyStopping`` does for one."""
    progress, ramp = block["progress"], block["ramp_progress"]
    has_ramp = np.isfinite(ramp) & (made.config.name != "asha")
    ended = np.flatnonzero(np.isfinite(progress) & has_ramp & (ramp >= 1 - ROUNDING))
    place = np.where(has_ramp, ramp, progress)
    rungs = np.searchsorted(made.config.rungs, np.nan_to_num(place) + ROUNDING, side="right") - 1
    trials, first, group = np.unique(block["trial"][ended], return_index=True, return_inverse=True)
    begins = zip(trials.tolist(), progress[ended[first]].tolist(), strict=True)
    begin = np.array([made.ramp_ended.setdefault(trial, where) for trial, where in begins], dtype=np.float64)
    after = np.floor((progress[ended] - begin[group]) / made.config.every + ROUNDING)
    rungs[ended] = len(made.config.rungs) - 1 + after.astype(np.int64)
    rungs[~np.isfinite(progress)] = -1
    return rungs
