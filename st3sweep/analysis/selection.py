"""Show the winner's curse: the front selects the best of noisy validation accuracies, so these are too high."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from st3sweep.analysis import noise
from st3sweep.analysis.axes import bulk, by_method, style_of, wrapped
from st3sweep.analysis.figures import PAGE, new_figure, put_legend, put_note, styled, thin
from st3sweep.analysis.fronts import OBJECTIVES, Objectives, front, mark_front, searched
from st3sweep.analysis.seeds import over_seeds, pooled_deviation
from st3sweep.util.text import counted

Floats = NDArray[np.float64]

_CHUNK = 2_000_000  # simulated accuracies in memory at a time


def selection_bias(
    trials: pd.DataFrame,
    validation_images: int | None = None,
    draws: int = 4000,
    objectives: Objectives = OBJECTIVES,
) -> pd.DataFrame:
    """Estimate by how much the validation accuracy of each trial on the front is too good, because it was selected.

    Returns the rows of ``fronts.front`` with the columns ``deviation`` (of one value's noise), ``bias`` (subtract it
    from the first objective) and ``noise`` (where the deviation is from), in the unit of the first objective: points
    for ``val_top1``. It may be a model's own metric, ``val_<metric>``, maximised or minimised (then the bias is
    negative); the other one is taken as exact.

    The noise is "replicates", the pooled deviation between seeds, if there are any; else, for val_top1 and val_top5,
    binomial noise of ``validation_images``, by default as many as the trials' settings say. The first predicts the mean
    over new seeds, the second the same weights on new images.

    A parametric bootstrap: takes the measured accuracies for true ones, adds normal noise ``draws`` times (the same
    noise in every call), and averages the noise of a trial where it is on the front. Too low rather than too high, so
    say "at least": measured accuracies differ more than true ones do. Of 100 trials that are truly equal it finds 0.44
    of the winner's bias. The choice of each trial's best epoch is not counted.

    Raises ValueError if the noise is not known, or the objectives are not two.
    """
    (metric, goal), (cost_column, cost_goal) = _two(objectives)
    table = over_seeds(trials, metric)
    deviation, source = _noise(trials, table, metric, validation_images)
    rows = searched(trials)
    known = rows[[metric, cost_column]].notna().all(axis=1).to_numpy()
    sign, cost_sign = (1 if goal == "max" else -1), (1 if cost_goal == "min" else -1)
    value, cost = (rows[column].to_numpy(float, na_value=np.nan)[known] for column in (metric, cost_column))
    bias = np.full(len(known), np.nan)
    bias[known] = sign * _bootstrap(sign * value, cost_sign * cost, deviation[known], draws)
    return front(rows.assign(deviation=deviation, bias=bias, noise=source), objectives)


@styled
def plot_selection(
    trials: pd.DataFrame,
    validation_images: int | None = None,
    objectives: Objectives = OBJECTIVES,
    width: float = PAGE,
) -> Figure:
    """Plot test over validation values of the first objective of the finished trials, the front's members ringed.

    The full line is equality; the dashed one is where the front is expected by ``selection_bias``, its mean over
    the front. It is missing where the noise is not known, which the note says. Replicates are left out.
    """
    (metric, _), _ = _two(objectives)
    test = "test_" + metric.removeprefix("val_")
    rows = searched(mark_front(trials, objectives))
    rows = rows.dropna(subset=[metric, test]) if test in rows else rows.head(0)
    figure, (axes,) = new_figure(width, 3.2)
    axes.set(xlabel=_axis_label(metric), ylabel=_axis_label(test))
    members = rows[rows["on_front"]]
    what = {"val_top1": "Validation and test accuracy"}.get(metric, f"{metric} and {test}")
    drawn = f"{counted(len(rows), 'trial')}, {len(members)} on the front"
    figure.suptitle(wrapped(f"{what}: what selecting the front adds; {drawn}", width))
    if rows.empty:
        axes.text(0.5, 0.5, "no finished trial has both", transform=axes.transAxes, ha="center", va="center")
        axes.set(xticks=[], yticks=[])
        return figure
    if metric == "val_top1":
        axes.set_xlim(*bulk(rows[metric]))
        axes.set_ylim(*bulk(rows[test]))
        _note_hidden(axes, rows)
    for method, group in by_method(rows):
        color, marker = style_of(method, rows["method"])
        shown = group.iloc[thin(group[metric], group[test], axes)]
        dots = {"s": 16, "linewidths": 0, "color": color, "marker": marker, "label": method, "zorder": 3}
        axes.scatter(shown[metric], shown[test], rasterized=len(shown) > 1000, **dots)
    ring: dict[str, Any] = {"facecolors": "none", "edgecolors": "0.25", "linewidths": 0.8, "zorder": 2}
    axes.scatter(members[metric], members[test], s=60, label="front", **ring)
    expected = _draw_lines(axes, trials, validation_images, objectives)
    put_legend(figure, [axes])
    put_note(figure, expected, _gaps(rows[metric] - rows[test], rows["on_front"]))
    return figure


def _two(objectives: Objectives) -> Objectives:
    if len(objectives) != 2:
        raise ValueError(f"two objectives are needed, the measure and the cost, but got {len(objectives)}")
    return objectives


def _axis_label(metric: str) -> str:
    return {"val_top1": "validation top-1 (%)", "test_top1": "test top-1 (%)"}.get(metric, metric)


def _note_hidden(axes: Axes, rows: pd.DataFrame) -> None:
    """Note above the axes how many trials, collapsed ones, lie outside."""
    hidden = rows[(rows["val_top1"] < axes.get_xlim()[0]) | (rows["test_top1"] < axes.get_ylim()[0])]
    if len(hidden):
        note = f"{len(hidden)} of {len(rows)} trials outside the axes (test down to {hidden['test_top1'].min():.1f} %)"
        axes.set_title(note, loc="right", fontsize="small", color="0.4")


def _draw_lines(axes: Axes, trials: pd.DataFrame, validation_images: int | None, objectives: Objectives) -> str:
    """Draw where both are equal, and where the front is expected; return what the latter is computed from."""
    place = (float(np.mean(axes.get_xlim())),) * 2
    axes.axline(place, slope=1, color="0.6", linewidth=0.8, label="equal")
    try:
        table = selection_bias(trials, validation_images, objectives=objectives)
    except ValueError:
        return "noise unknown: no replicates, and the number of validation images is not known"
    if table.empty:  # no cost is known, so nothing is on the front
        return ""
    bias = float(table["bias"].mean())
    (metric, goal), _ = objectives
    size = bias if goal == "max" else -bias
    shown = f"{size:.2f}" if metric == "val_top1" else f"{size:.2g}"
    away = f"{shown} or more {'lower' if goal == 'max' else 'higher'}"
    style: dict[str, Any] = {"color": "0.25", "linewidth": 0.8, "linestyle": "--", "label": "expected of the front"}
    axes.axline((place[0], place[1] - bias), slope=1, **style)
    return f"expected of the front: test {away} than validation (noise: {table['noise'].iloc[0]})"


def _gaps(differences: pd.Series, on_front: pd.Series) -> str:
    """Return in words the mean of validation minus test accuracy, of the front and of the other trials.

    The gap of the others is no selection of the front: the test images may be harder, and best epochs were selected.
    """
    gaps = differences.groupby(on_front).mean()
    decimals = 2 if gaps.abs().max() >= 0.1 else 4
    parts = [
        f"{name} {gaps[chosen]:+.{decimals}f}"
        for name, chosen in (("front", True), ("others", False))
        if chosen in gaps
    ]
    return "mean of validation − test: " + ", ".join(parts)


def _noise(trials: pd.DataFrame, table: pd.DataFrame, metric: str, images: int | None) -> tuple[Floats, str]:
    """Return the deviation of each row's one measured value, and where it is from."""
    if (table["seeds"] > 1).any():
        return np.full(len(table), pooled_deviation(table)), "replicates"
    if metric not in ("val_top1", "val_top5"):
        raise ValueError(f"the noise of {metric} is not known: no trial has a replicate, and it is no accuracy")
    if images is None:
        images = noise.validation_images(trials)
    if images is None:
        raise ValueError("the noise is not known: no trial has a replicate, and validation_images was not given")
    accuracy = table[metric].to_numpy(float)
    return noise.binomial_deviation(accuracy, images), f"binomial, {images:,} images"


def _bootstrap(accuracy: Floats, cost: Floats, deviation: Floats, draws: int) -> Floats:
    """Return the mean noise of each trial, (n,), over the draws that put it on the front; NaN where none does."""
    order = np.argsort(cost, kind="stable")
    accuracy, cost, deviation = accuracy[order], cost[order], deviation[order]
    last = np.searchsorted(cost, cost, "right") - 1  # among those of equal cost
    random = np.random.default_rng(0)
    total, times = np.zeros(len(cost)), np.zeros(len(cost))
    step = max(1, _CHUNK // max(1, len(cost)))
    for start in range(0, draws, step):
        error = random.standard_normal((min(step, draws - start), len(cost))) * deviation
        drawn = accuracy + error
        best = np.maximum.accumulate(drawn, axis=1)  # of all that cost no more
        chosen = drawn == best[:, last]  # on the front; noise leaves no ties
        total += (error * chosen).sum(axis=0)
        times += chosen.sum(axis=0)
    bias = np.full(len(cost), np.nan)
    bias[order] = np.divide(total, times, out=np.full(len(cost), np.nan), where=times > 0)
    return bias
