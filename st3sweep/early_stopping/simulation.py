"""Simulate a sweep from recorded learning curves: trials run in slots, and early stopping may stop them."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from st3sweep.early_stopping.rules import EarlyStopping


@dataclass(frozen=True)
class Curve:
    """Learning curve of a trial trained to the end: its epochs (rows of ``runs.tables.EPOCHS``) and costs."""

    trial: int
    records: Sequence[Mapping[str, Any]]
    costs: Sequence[float]  # seconds, or 1 an epoch


@dataclass(frozen=True)
class Simulated:
    """Outcome of the trials, arrays in the order of the curves; ``compute`` is summed over slots.

    ``compute_at_end``: the compute that the sweep had used when the trial ended, running trials included. ``epochs``:
    how many each trained. ``began_at`` and ``ended_at``: when, on the clock of the slots.
    """

    finished: NDArray[np.bool_]
    compute_at_end: NDArray[np.float64]
    compute: float
    epochs: NDArray[np.int64]
    began_at: NDArray[np.float64]
    ended_at: NDArray[np.float64]


def simulate(
    curves: Sequence[Curve], order: Sequence[int], early_stopping: EarlyStopping, slots: int, overshoot: int = 1
) -> Simulated:
    """Run ``curves`` in ``order`` in ``slots`` slots: a free slot takes the next trial at once.

    Early stopping sees an epoch when it ends. A stopped trial trains ``overshoot`` epochs more, since a sweep decides
    while the next epoch runs; if its last epoch is among them, it has finished.
    """
    began_at, ended_at, slot_end = np.zeros(len(curves)), np.zeros(len(curves)), np.zeros(slots)
    last = [len(curve.records) for curve in curves]
    waiting = iter(order)
    events: list[tuple[float, int, int, int]] = []  # time, slot, curve, epochs done by then

    def begin(now: float, slot: int) -> None:
        slot_end[slot] = now
        if (index := next(waiting, None)) is not None:
            began_at[index] = now
            heapq.heappush(events, (now + curves[index].costs[0], slot, index, 1))

    for slot in range(slots):
        begin(0.0, slot)
    while events:
        now, slot, index, done = heapq.heappop(events)
        curve = curves[index]
        if early_stopping.observe(curve.trial, curve.records[done - 1]):
            last[index] = min(last[index], done + overshoot)
        if done < last[index]:
            heapq.heappush(events, (now + curve.costs[done], slot, index, done + 1))
        else:
            ended_at[index] = now
            begin(now, slot)
    finished = np.array([length == len(curve.records) for length, curve in zip(last, curves, strict=True)])
    compute_at_end = np.minimum(ended_at[:, None], slot_end).sum(axis=1)  # no slot is idle before its end
    return Simulated(finished, compute_at_end, float(slot_end.sum()), np.array(last), began_at, ended_at)
