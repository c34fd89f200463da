"""Compute the Pareto front of a table of trials: those that no other one dominates in accuracy and cost.

Works on the ``trials`` table of ``st3sweep.runs.tables``; ``st3sweep.pareto`` defines front and hypervolume. Trials
that stopped early or failed are never on a front and never dominate. Neither do replicates: they measure the variance
of their trial (``seeds.py``), and among many seeds the luckiest would win.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from st3sweep.pareto import Goal, hypervolume, pareto_mask

Objectives = tuple[tuple[str, Goal], ...]

# Validation accuracy, not test: the front selects trials, for which the test set must not be used.
OBJECTIVES: Objectives = (("val_top1", "max"), ("gflops", "min"))

COSTS = {"gflops": "GFLOPs", "latency_ms": "ms", "size_mb": "MB"}  # columns that a front may be over, and their units


def cost_of(objectives: Objectives) -> str:
    """Return the column of the cost among ``objectives``; gflops where there is none."""
    return next((column for column, _ in objectives if column in COSTS), "gflops")


def finished(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of finished trials, in their order and with their index."""
    return trials[(trials["status"] == "finished").to_numpy(dtype=bool)]


def is_replicate(trials: pd.DataFrame) -> NDArray[np.bool_]:
    """Return (len(trials),) bool: whether a row repeats another trial with a different seed."""
    repeated = trials["replicate_of"] if "replicate_of" in trials else pd.Series(np.nan, index=trials.index)
    return repeated.notna().to_numpy(dtype=bool)


def searched(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of finished trials of the search, without replicates, in their order and with their index."""
    return trials[_may_be_on_front(trials)]


def front(trials: pd.DataFrame, objectives: Objectives = OBJECTIVES) -> pd.DataFrame:
    """Return the front of ``objectives`` (metric column, goal) among ``searched``, sorted by their cost."""
    return trials[_on_front(trials, objectives)].sort_values(cost_of(objectives), kind="stable")


def pick(
    trials: pd.DataFrame,
    max_gflops: float | None = None,
    min_accuracy: float | None = None,
    objectives: Objectives = OBJECTIVES,
    max_latency: float | None = None,
) -> pd.DataFrame:
    """Pick one trial of the front of ``objectives``, as a table of one row, or of none if no trial qualifies.

    With ``max_gflops`` or ``max_latency`` (ms) alone the most accurate that costs no more, by ``val_top1`` or the
    measure that the objectives name beside the cost; with ``min_accuracy`` (percent) the cheapest whose ``val_top1`` is
    no less; with none the most accurate of all. A limit on another cost than the objectives' decides which trials may
    be on the front.
    """
    cost, limits = cost_of(objectives), {"gflops": max_gflops, "latency_ms": max_latency}
    for column, most in limits.items():
        if most is not None and column != cost:
            trials = trials[(trials[column] <= most).to_numpy(dtype=bool)]
    allowed, limit = front(trials, objectives), limits.get(cost)
    if limit is not None:
        allowed = allowed[allowed[cost] <= limit]
    if min_accuracy is None:
        return allowed.tail(1)  # along a front accuracy rises with cost
    return allowed[allowed["val_top1"] >= min_accuracy].head(1)


def mark_front(trials: pd.DataFrame, objectives: Objectives = OBJECTIVES) -> pd.DataFrame:
    """Return a copy of ``trials`` with a bool column ``on_front``."""
    return trials.assign(on_front=_on_front(trials, objectives))


def front_hypervolume(trials: pd.DataFrame, reference: tuple[float, float] | None = None) -> float:
    """Compute the area under the front of validation accuracy over cost, in percent × GFLOPs.

    ``reference`` is (val_top1 in percent, gflops). The default is 0 % at the cost of the dense model, the same for
    every run of one model: a trial as costly as the dense model adds nothing, and the maximum is
    100 × ``gflops_dense``. Returns 0.0 if no trial finished.

    Raises ValueError if the trials have several dense costs, so that the default is not one point.
    """
    rows = searched(trials)
    if reference is None:
        dense = rows["gflops_dense"].dropna().unique()
        if len(dense) == 0:
            return 0.0
        if len(dense) > 1:
            raise ValueError(f"one reference needs one dense cost, but got gflops_dense of {sorted(dense)}")
        reference = (0.0, float(dense[0]))
    return hypervolume(_values(rows, OBJECTIVES), [goal for _, goal in OBJECTIVES], reference)


def _on_front(trials: pd.DataFrame, objectives: Objectives) -> NDArray[np.bool_]:
    """Return the front's mask, (len(trials),) bool, by position, since concatenated tables may repeat an index."""
    mask = _may_be_on_front(trials)
    mask[mask] = pareto_mask(_values(trials[mask], objectives), [goal for _, goal in objectives])
    return mask


def _may_be_on_front(trials: pd.DataFrame) -> NDArray[np.bool_]:
    return (trials["status"] == "finished").to_numpy(dtype=bool) & ~is_replicate(trials)


def _values(trials: pd.DataFrame, objectives: Objectives) -> NDArray[np.float64]:
    """Return the objectives' columns, (len(trials), len(objectives)), NaN for null. Raises ValueError."""
    columns = [column for column, _ in objectives]
    if missing := [column for column in columns if column not in trials.columns]:
        raise ValueError(f"no column {missing} for an objective; the table has {list(trials.columns)}")
    return trials[columns].to_numpy(dtype=float, na_value=np.nan)
