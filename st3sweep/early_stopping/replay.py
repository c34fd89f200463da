"""Replay early stopping on a completed run without early stopping: what it would have saved and lost.

Simulates a sweep with a rule from the run's learning curves, in many random orders of its trials, and compares it with
a random search without stopping that takes the same trials in the same order. Both are measured by the hypervolume of
their finished trials, on the axes of the rules: error and log gflops, from the ideal of all trials' front at 0 to its
nadir at 1, up to 1.1; as a fraction of the hypervolume of all trials.

- ``hypervolume_ratio``, the main result: hypervolume with stopping over hypervolume without, at equal cost: the total
  cost of the sweep with stopping. A ratio of means over orders.
- ``compute_ratio``: the cost at which the search without stopping reaches the final hypervolume of the sweep with
  stopping, over the cost at which the sweep with stopping reaches it. A mean of ratios; 0 for an order whose final
  hypervolume is 0.

For both, stopping pays above 1. The search without stopping is favoured: it pays for a trial when that finishes, and
gets a fraction of the next one's gain in proportion to its cost paid; the sweep with stopping also pays for trials
still running. The first ratio is near 1 if few trials make most of the hypervolume. All orders are of the same trials:
the intervals are of the mean over orders, and say nothing of other runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from st3sweep.analysis.fronts import mark_front, searched
from st3sweep.analysis.timeline import TIMELINE
from st3sweep.early_stopping.ranking import GOALS, Floats, normalised
from st3sweep.early_stopping.rules import EarlyStopping
from st3sweep.early_stopping.simulation import Curve, Simulated, simulate
from st3sweep.pareto import hypervolume, pareto_layers
from st3sweep.space.early_stopping import EarlyStoppingConfig
from st3sweep.util.errors import UserError
from st3sweep.util.text import aligned, counted

REFERENCE = (1.1, 1.1)
CURVE = np.linspace(0.05, 1, 20)  # fractions of the compute of all trials
_ROUNDING = 1e-12  # rounding error of hypervolumes, which are sums, and of costs

Unit = Literal["seconds", "epochs"]


@dataclass(frozen=True)
class Estimate:
    """A mean over orders and the half-width of its 95 % interval (Student's t)."""

    mean: float
    half_width: float

    @classmethod
    def of(cls, values: Floats) -> Estimate:
        error = values.std(ddof=1) / np.sqrt(len(values))
        return cls(float(values.mean()), float(stats.t.ppf(0.975, len(values) - 1) * error))

    @classmethod
    def ratio(cls, over: Floats, under: Floats) -> Estimate:
        """Estimate the ratio of two means over the same orders; its interval is from the linearised residuals."""
        ratio = over.mean() / under.mean()
        return cls(float(ratio), cls.of((over - ratio * under) / under.mean()).half_width)


@dataclass(frozen=True)
class Replay:
    """Result of replaying one rule; fractions, except for ``stopped`` and ``front_lost``, which count trials."""

    early_stopping: EarlyStoppingConfig
    trials: int
    front: int  # trials on the front of all trials
    ramps: bool  # whether the epochs have ``ramp_progress``; without it rungs are in training progress
    stopped: Estimate
    front_lost: Estimate  # trials of the front that were stopped
    compute_saved: Estimate  # of the compute of all trials
    hypervolume: Estimate  # with stopping, at the end of the sweep
    hypervolume_random: Estimate  # without, at equal cost
    hypervolume_ratio: Estimate
    compute_ratio: Estimate
    curve: dict[str, list[float]]  # fraction of all trials' compute → mean hypervolumes with and without stopping


def replay(
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    config: EarlyStoppingConfig,
    *,
    slots: int = 4,
    seed: int = 0,
    orders: int = 200,
    unit: Unit = "seconds",
    overshoot: int = 1,
) -> Replay:
    """Replay ``config`` on a run's tables ``trials`` and ``epochs``, in ``orders`` random orders of its trials.

    An epoch costs its stored seconds, or 1 with ``unit`` epochs; ``overshoot`` as in ``simulate``. Raises UserError
    if the run has fewer than two finished trials, or any that were stopped.
    """
    rows = _whole_trials(trials)
    curves = [_curve(number, epochs, unit) for number in rows["trial"]]
    points = np.stack([100 - rows["val_top1"].to_numpy(float), np.log(rows["gflops"].to_numpy(float))], axis=1)
    layers = pareto_layers(points, GOALS)
    table = normalised(points, layers)
    costs = np.array([sum(curve.costs) for curve in curves])
    outcomes = []
    for number in range(orders):
        order = np.random.default_rng((seed, number)).permutation(len(curves))
        done = simulate(curves, order.tolist(), EarlyStopping(config, seed + number), slots, overshoot)
        outcomes.append(_compare(done, order, costs, table, layers == 0))
    columns = {name: np.array([outcome[name] for outcome in outcomes]) for name in outcomes[0]}
    named = ("stopped", "front_lost", "compute_saved", "hypervolume", "hypervolume_random", "compute_ratio")
    return Replay(
        early_stopping=config,
        trials=len(curves),
        front=int((layers == 0).sum()),
        ramps="ramp_progress" in epochs and bool(epochs["ramp_progress"].notna().any()),
        hypervolume_ratio=Estimate.ratio(columns["hypervolume"], columns["hypervolume_random"]),
        curve={
            "compute": CURVE.tolist(),
            "stopping": columns["curve"].mean(axis=0).tolist(),
            "random": columns["curve_random"].mean(axis=0).tolist(),
        },
        **{name: Estimate.of(columns[name]) for name in named},
    )


def replay_timeline(
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    config: EarlyStoppingConfig,
    *,
    slots: int = 4,
    seed: int = 0,
    overshoot: int = 1,
) -> pd.DataFrame:
    """Replay ``config`` once, in the first of the random orders of ``replay``, and return the table of ``timeline``.

    ``analysis.profile_plots.plot_timeline`` draws it. Times are recorded seconds on the clock of the slots. The front
    is that of all trials, so that a stopped trial on it is one that was lost. Raises UserError as ``replay``.
    """
    rows = _whole_trials(trials)
    curves = [_curve(number, epochs, "seconds") for number in rows["trial"]]
    order = np.random.default_rng((seed, 0)).permutation(len(curves))
    rules = EarlyStopping(config, seed)
    done = simulate(curves, order.tolist(), rules, slots, overshoot)
    full = np.array([len(curve.records) for curve in curves])
    last = [curve.records[count - 1] for curve, count in zip(curves, done.epochs, strict=True)]
    rungs = [rules.rung(curve.trial) for curve in curves]
    table = mark_front(rows).assign(
        run=rows.get("run", "replay"),
        status=np.where(done.finished, "finished", "stopped"),
        rung=[np.nan if rung is None else rung for rung in rungs],
        epochs=done.epochs,
        epochs_full=full,
        trained=done.epochs / full,
        ramp_progress=[record.get("ramp_progress", np.nan) for record in last],
        begin_seconds=done.began_at,
        end_seconds=done.ended_at,
    )
    return table.iloc[order][TIMELINE].reset_index(drop=True)


def _whole_trials(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the finished trials of the search, without replicates. Raises UserError."""
    if stopped := int((trials["status"] == "stopped").sum()):
        raise UserError(
            f"{counted(stopped, 'trial')} of this run stopped early: a replay needs trials trained to the end"
        )
    found = searched(trials)
    rows = found[found["val_top1"].notna() & (found["gflops"] > 0)]
    if len(rows) < 2:
        raise UserError(f"a replay needs at least 2 finished trials; this run has {len(rows)}")
    return rows


def _curve(number: int, epochs: pd.DataFrame, unit: Unit) -> Curve:
    rows = epochs[epochs["trial"] == number].sort_values("epoch")
    if rows.empty:
        raise UserError(f"trial {number} has no epochs in this run: it cannot be replayed")
    costs = rows["seconds"].to_list() if unit == "seconds" else [1.0] * len(rows)
    records: list[dict[str, Any]] = [
        {str(name): value for name, value in row.items()} for row in rows.to_dict("records")
    ]
    return Curve(int(number), records, costs)


def _compare(
    done: Simulated, order: NDArray[np.int64], costs: Floats, table: Floats, front: NDArray[np.bool_]
) -> dict[str, Any]:
    """Compare, for one order, the sweep with stopping to the same trials without."""
    by_end = np.argsort(done.compute_at_end, kind="stable")
    by_end = by_end[done.finished[by_end]]
    used, own = np.insert(done.compute_at_end[by_end], 0, 0.0), _gained(table, by_end)
    paid, random = np.insert(np.cumsum(costs[order]), 0, 0.0), _gained(table, order)
    asked = CURVE * paid[-1]
    until = used[np.searchsorted(own, own[-1] - _ROUNDING)]
    return {
        "stopped": float((~done.finished).sum()),
        "front_lost": float((front & ~done.finished).sum()),
        "compute_saved": 1 - done.compute / paid[-1],
        "hypervolume": own[-1],
        "hypervolume_random": np.interp(done.compute, paid, random),
        "compute_ratio": _cost_of(own[-1], paid, random) / until if until else 0.0,
        "curve": own[np.searchsorted(used, asked * (1 + _ROUNDING), side="right") - 1],
        "curve_random": np.interp(asked, paid, random),
    }


def _gained(table: Floats, order: NDArray[np.int64]) -> Floats:
    """Compute the hypervolume of the first 0, 1, ... trials of ``order``, (len(order) + 1,), as a fraction of all's."""
    found = [hypervolume(table[order[:count]], GOALS, REFERENCE) for count in range(len(order) + 1)]
    return np.array(found) / hypervolume(table, GOALS, REFERENCE)


def _cost_of(wanted: float, paid: Floats, gained: Floats) -> float:
    """Return the cost at which the piecewise linear, rising ``gained`` over ``paid`` first reaches ``wanted`` > 0."""
    reached = int(np.searchsorted(gained, wanted - _ROUNDING))
    below, above = gained[reached - 1], gained[reached]
    share = min(1.0, (wanted - below) / (above - below))
    return float(paid[reached - 1] + share * (paid[reached] - paid[reached - 1]))


def replay_table(replays: Sequence[Replay]) -> str:
    """Format a table: a line for each rule, means over the orders with their 95 % intervals."""
    head = (
        "early stopping", "trials stopped", "compute saved %", "front lost", "hypervolume %", "random search %",
        "hypervolume ratio", "compute ratio",
    )  # fmt: skip
    rows = [
        (
            one.early_stopping.name,
            _shown(one.stopped, 1),
            _shown(one.compute_saved, 1, 100),
            _shown(one.front_lost, 2),
            _shown(one.hypervolume, 2, 100),
            _shown(one.hypervolume_random, 2, 100),
            _shown(one.hypervolume_ratio, 3),
            _shown(one.compute_ratio, 2),
        )
        for one in replays
    ]
    first = replays[0]
    title = f"{first.trials} trials, {first.front} of them on the front; hypervolumes: relative to that of all trials"
    remark = "" if first.ramps else "the epochs have no ramp_progress: rungs are in training progress\n"
    return f"{title}\n{remark}\n{aligned([head, *rows], left=[0])}"


def _shown(estimate: Estimate, decimals: int, scale: float = 1) -> str:
    return f"{scale * estimate.mean:.{decimals}f} ± {scale * estimate.half_width:.{decimals}f}"
