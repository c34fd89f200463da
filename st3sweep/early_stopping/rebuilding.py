"""Rebuild the state of early stopping from recorded epochs, for a run that is resumed.

Observing each epoch would give the same state, in seconds for ten thousand trials. Most epochs reach no rung, and those
that do are found for a whole block of the tables at once; each rung is then built from all of its trials.
"""

from __future__ import annotations

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
        for row, before, rung in _reaching(made, block):
            record = {name: float(block[name][row]) for name in JUDGED}
            trial = int(block["trial"][row])
            made.reached[trial] = rung
            if (point := made.point(record)) is not None:
                at_end = record["progress"] >= 1 - ROUNDING
                for passed in range(before + 1, rung + 1):
                    last = passed == rung and not at_end and trial in judged
                    arrived[passed].append((trial, (*point, made.tie(trial, passed)), last))
    stopped = set()
    for rung, trials in arrived.items():
        first = next((place for place, (*_, is_judged) in enumerate(trials) if is_judged), len(trials))
        made.counted[rung] = Rung.of({trial: entry for trial, entry, _ in trials[:first]})
        for trial, entry, is_judged in trials[first:]:
            made.counted[rung].add(trial, entry)
            if is_judged and made.stops(rung):
                stopped.add(trial)
    return stopped


def _reaching(made: EarlyStopping, block: Block) -> list[tuple[int, int, int]]:
    """Return the rows at which trials reach a rung: row, the trial's last rung before (-1 for none), and the rung."""
    order = np.argsort(block["trial"], kind="stable")
    trials, group = np.unique(block["trial"][order], return_inverse=True)
    known = np.array([made.reached.get(trial, -1) for trial in trials.tolist()], dtype=np.int64)[group]
    rungs = np.maximum(_rungs(made, block)[order], -1)
    # The highest so far of each trial, in one pass: the rungs of a trial are shifted above those of the one before.
    height = int(rungs.max(initial=0)) + int(known.max(initial=0)) + 2
    highest = np.maximum.accumulate(np.maximum(rungs, known) + group * height) - group * height
    before = np.where(np.diff(group, prepend=-1) > 0, known, np.roll(highest, 1))
    found = np.flatnonzero(rungs > before)
    return sorted(zip(order[found].tolist(), before[found].tolist(), rungs[found].tolist(), strict=True))


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
