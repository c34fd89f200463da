"""Say how much of a front is luck: what repetitions of a search attain at each cost, as bands."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from st3sweep.analysis.axes import label_log_axis, limit_accuracy, wrapped
from st3sweep.analysis.figures import PAGE, new_figure, put_legend, styled
from st3sweep.analysis.fronts import OBJECTIVES, Objectives, searched
from st3sweep.analysis.seeds import over_seeds, pooled_deviation
from st3sweep.util.text import flops_unit

Floats = NDArray[np.float64]

ATTAINMENT = ["gflops", "low", "median", "high", "repetitions", "basis"]


def attainment(
    trials: pd.DataFrame, by: str | None = None, objectives: Objectives = OBJECTIVES, draws: int = 2000
) -> pd.DataFrame:
    """Compute the best value of the first objective that each budget of gflops buys, over repetitions of the search.

    With ``by``, a column whose values each are one whole repetition (``seed`` where the space searches the seed,
    ``run`` for runs of one space): low, median and high are what all, half and any of them attain (the empirical
    attainment function, Grunert da Fonseca, Fonseca and Hall, 2001). Without it, from replicates: each trial's true
    value is drawn from a normal distribution around its mean over seeds, as in ``seeds.front_probability``, and low and
    high hold 95 % of the ``draws``. Columns: gflops, rising, where a front may step; low; median; high; repetitions, or
    the number of replicated trials; basis, the column or "replicates". NaN where a repetition has nothing so cheap.

    Where less is better, low is the larger value: what all attain.

    Raises ValueError if ``by`` has fewer than two values, or without it no trial has a replicate.
    """
    (metric, goal), (cost_column, _) = objectives
    sign = 1.0 if goal == "max" else -1.0
    if by is None:
        table = over_seeds(trials, metric).dropna(subset=["mean", cost_column])
        error = pooled_deviation(table) / np.sqrt(table["seeds"].to_numpy(float))
        mean, cost = sign * table["mean"].to_numpy(float), table[cost_column].to_numpy(float)
        random = np.random.default_rng(0)
        values = [(mean + error * random.standard_normal(len(mean)), cost) for _ in range(draws)]
        shares, count, basis = (0.025, 0.5, 0.975), int((table["seeds"] > 1).sum()), "replicates"
    else:
        rows = searched(trials).dropna(subset=[metric, cost_column])
        groups = [group for _, group in rows.groupby(by)]
        if len(groups) < 2:
            raise ValueError(f"by={by!r}: two repetitions or more are needed, but there are {len(groups)}")
        values = [(sign * group[metric].to_numpy(float), group[cost_column].to_numpy(float)) for group in groups]
        shares, count, basis = (0.0, 0.5, 1.0), len(groups), by
    budgets = np.unique(np.concatenate([cost for _, cost in values])) if values else np.empty(0)
    best = np.array([_best_within(budgets, *one) for one in values])
    # As values to maximise, so that low is what is attained most surely, in either direction.
    low, median, high = (sign * np.quantile(best, share, axis=0, method="inverted_cdf") for share in shares)
    table = pd.DataFrame({"gflops": budgets, "low": low, "median": median, "high": high})
    table = table.replace([np.inf, -np.inf], np.nan).assign(repetitions=count, basis=basis)
    steps = table[["low", "median", "high"]].ne(table[["low", "median", "high"]].shift()).any(axis=1)
    return table[steps][ATTAINMENT].reset_index(drop=True)


@styled
def plot_attainment(table: pd.DataFrame, metric: str = "val_top1", width: float = PAGE) -> Figure:
    """Plot the output of ``attainment``: the median as a staircase, the band from low to high around it."""
    figure, (axes,) = new_figure(width, 3.0)
    rows = table[table["gflops"] > 0]
    by_replicates = bool((table["basis"] == "replicates").all())
    band = "95 % of draws" if by_replicates else f"all to any of {table['repetitions'].max()} repetitions"
    if len(rows):
        unit, scale = flops_unit(float(rows["gflops"].max()))
        x, end = scale * rows["gflops"].to_numpy(), 1.15 * scale * float(rows["gflops"].max())
        curves = {name: np.append(rows[name], rows[name].iloc[-1]) for name in ("low", "median", "high")}
        axes.set_xscale("log")
        places = np.append(x, end)
        band_style = {"step": "post", "color": "#0072b2", "alpha": 0.25, "linewidth": 0, "label": band}
        axes.fill_between(places, curves["low"], curves["high"], **band_style)  # type: ignore[arg-type]
        axes.step(places, curves["median"], where="post", color="#0072b2", label="median")
        axes.set_xlim(x.min() / 1.1, end)
        label_log_axis(axes.xaxis, *axes.get_xlim())
        limit_accuracy(axes, pd.concat([rows["low"], rows["median"], rows["high"]]), "steps")
        axes.set_xlabel(f"inference cost of one image ({unit})")
        put_legend(figure, [axes])
    axes.set_ylabel({"val_top1": "validation top-1 (%)", "test_top1": "test top-1 (%)"}.get(metric, metric))
    figure.suptitle(wrapped("What each budget attains, over repetitions of the search", width))
    return figure


def _best_within(budgets: Floats, values: Floats, costs: Floats) -> Floats:
    """Return the greatest of ``values`` at no more than each of ``budgets``, rising; -inf where there is none."""
    order = np.argsort(costs, kind="stable")
    best = np.append(-np.inf, np.maximum.accumulate(values[order]))
    return np.asarray(best[np.searchsorted(costs[order], budgets, "right")])
