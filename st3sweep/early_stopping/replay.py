"""What early stopping would have saved and lost in a finished run of trials that were never stopped.

The run's own curves are shown to a rule as if its trials ran in slots, in many random orders. It is set against
a random search that never stops and takes the same trials in the same order. Both are measured by the hypervolume of
the trials that finished, on the axes of the rules: error and log gflops, from the ideal of all trials' front at 0
to its nadir at 1, up to 1.1; 1 is the hypervolume of all trials.

- ``hypervolume_ratio``, the headline: hypervolume with stopping over hypervolume without at equal cost, which is all
  that the sweep with stopping cost. A ratio of means over orders.
- ``compute_ratio``: what the search that never stops costs until it has the hypervolume that stopping ends with, over
  what the sweep with stopping costs until it has that. A mean of ratios; 0 for an order that ends with none.

Above 1 stopping pays, for both. The search that never stops is favoured: it pays for a trial when that finishes, and
gets the part of the next one's gain that it has paid for; the sweep with stopping also pays for what runs beside. The
first ratio is near 1 where few trials make most of the hypervolume. Orders are of the same trials: the intervals say
how sure the mean over orders is, and nothing of other runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from st3sweep.analysis.fronts import searched
from st3sweep.early_stopping.ranking import GOALS, Floats, normalised
from st3sweep.early_stopping.rules import EarlyStopping
from st3sweep.early_stopping.simulation import Curve, Simulated, simulate
from st3sweep.pareto import hypervolume, pareto_layers
from st3sweep.space.early_stopping import EarlyStoppingConfig
from st3sweep.util.errors import UserError
from st3sweep.util.text import aligned

REFERENCE = (1.1, 1.1)
CURVE = np.linspace(0.05, 1, 20)  # of the compute of all trials
_ROUNDING = 1e-12  # of hypervolumes, which are sums, and of costs

Unit = Literal["seconds", "epochs"]


@dataclass(frozen=True)
class Estimate:
    """A mean over orders and half of its 95 % interval (Student's t)."""

    mean: float
    half_width: float

    @classmethod
    def of(cls, values: Floats) -> Estimate:
        error = values.std(ddof=1) / np.sqrt(len(values))
        return cls(float(values.mean()), float(stats.t.ppf(0.975, len(values) - 1) * error))

    @classmethod
    def ratio(cls, over: Floats, under: Floats) -> Estimate:
        """Ratio of two means over the same orders; its interval from the linearised residuals."""
        ratio = over.mean() / under.mean()
        return cls(float(ratio), cls.of((over - ratio * under) / under.mean()).half_width)


@dataclass(frozen=True)
class Replay:
    """What came of one rule. Fractions but for ``stopped`` and ``front_lost``, which are trials."""

    early_stopping: EarlyStoppingConfig
    trials: int
    front: int  # trials on the front of all
    ramps: bool  # whether the epochs tell ``ramp_progress``; where none does, rungs are in training progress
    stopped: Estimate
    front_lost: Estimate  # trials of the front that were stopped
    compute_saved: Estimate  # of the compute of all trials
    hypervolume: Estimate  # with stopping, at its end
    hypervolume_random: Estimate  # without, at equal cost
    hypervolume_ratio: Estimate
    compute_ratio: Estimate
    curve: dict[str, list[float]]  # compute (of all trials'), and the mean hypervolumes with and without stopping


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
    where the run holds fewer than two finished trials, or some that were stopped.
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


def _whole_trials(trials: pd.DataFrame) -> pd.DataFrame:
    """The finished trials of the search, replicates left out."""
    if stopped := int((trials["status"] == "stopped").sum()):
        raise UserError(f"{stopped} trials of this run were stopped early: a replay needs whole ones")
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
    """One order: the sweep with stopping, and the same trials without."""
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
    """(len(order) + 1,) hypervolume of the first 0, 1, ... trials of ``order``, as a share of that of all trials."""
    found = [hypervolume(table[order[:count]], GOALS, REFERENCE) for count in range(len(order) + 1)]
    return np.array(found) / hypervolume(table, GOALS, REFERENCE)


def _cost_of(wanted: float, paid: Floats, gained: Floats) -> float:
    """Where the rising curve of ``gained`` over ``paid``, of straight pieces, first has ``wanted``, above 0."""
    reached = int(np.searchsorted(gained, wanted - _ROUNDING))
    below, above = gained[reached - 1], gained[reached]
    share = min(1.0, (wanted - below) / (above - below))
    return float(paid[reached - 1] + share * (paid[reached] - paid[reached - 1]))


def replay_table(replays: Sequence[Replay]) -> str:
    """A line for each rule, means with their 95 % intervals over the orders."""
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
    title = f"{first.trials} trials, {first.front} of them on the front; hypervolumes are shares of that of all trials"
    remark = "" if first.ramps else "the epochs have no ramp_progress: rungs are in training progress\n"
    return f"{title}\n{remark}\n{aligned([head, *rows], left=[0])}"


def _shown(estimate: Estimate, decimals: int, scale: float = 1) -> str:
    return f"{scale * estimate.mean:.{decimals}f} ± {scale * estimate.half_width:.{decimals}f}"
