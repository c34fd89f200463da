"""Plot the front of a run, beside published points; ``trial_plots.py`` plots its trials.

Every function takes the figure's ``width`` in inches, ``figures.PAGE`` or ``figures.COLUMN``, and returns a matplotlib
Figure outside pyplot, so that nothing needs closing, no global style changes, and no display is needed. Costs are drawn
in MFLOPs or GFLOPs, whichever reads better.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle

from st3sweep.analysis.axes import (
    by_method,
    limit_accuracy,
    limit_cost,
    limit_values,
    place_of_zero,
    plain,
    style_of,
    without_cost,
    wrapped,
)
from st3sweep.analysis.figures import MANY, PAGE, new_figure, put_legend, put_note, shortened, styled, thin
from st3sweep.analysis.figures import save as save
from st3sweep.analysis.fronts import COSTS, OBJECTIVES, Objectives, cost_of, finished, front, is_replicate
from st3sweep.analysis.labels import End, label_ends, room_for
from st3sweep.analysis.published_points import published as published_points
from st3sweep.analysis.seeds import over_seeds
from st3sweep.analysis.tables import flops_unit
from st3sweep.util.text import counted

WHAT = {  # on the horizontal axis, by cost
    "gflops": "inference cost of one image ({})",
    "latency_ms": "time of one image in the sparse runtime ({})",
    "size_mb": "size of the packed file ({})",
}
METRICS = {"val_top1": "validation top-1 (%)", "test_top1": "test top-1 (%)"}
RASTERISED = 1000  # points of one method, above which they are a picture within a PDF or SVG
BELOW = MarkerStyle("$\\downarrow$")


@styled
def plot_front(
    trials: pd.DataFrame,
    *,
    objectives: Objectives = OBJECTIVES,
    metric: str = "val_top1",
    published: pd.DataFrame | None = None,
    width: float = PAGE,
) -> Figure:
    """Plot accuracy over cost: every finished trial a point, those on the front of ``objectives`` ringed.

    A replicate is a faint point; the trial that it repeats has a bar, the 95 % interval of the mean over its seeds.
    If ``metric`` and gflops are the objectives, a staircase shows the best accuracy that each budget buys.
    ``published`` are rows of ``tables.published()``, drawn muted and named at the cheap end of each method's line; a
    note names methods of which points have no cost, and so no place. They are test accuracies: raises ValueError for
    another ``metric``.
    """
    figure, (axes,) = new_figure(width, 3.2)
    _draw_front(axes, trials, objectives, metric, published)
    put_legend(figure, [axes])
    put_note(figure, "" if published is None else without_cost(published))
    figure.suptitle(_title_of_front(trials, objectives, metric, width))
    return figure


@styled
def plot_run(trials: pd.DataFrame, objectives: Objectives = OBJECTIVES, width: float = PAGE) -> Figure:
    """Plot a run's front and, if its model and dataset have published points, its test accuracies among those.

    With an own metric or another cost as ``objectives`` (``tables.objectives_over``), plots those alone.
    """
    if objectives != OBJECTIVES:
        (metric,) = (column for column, _ in objectives if column not in COSTS)
        return plot_front(trials, objectives=objectives, metric=metric, width=width)
    models, datasets = trials["model"].dropna().unique(), trials["dataset"].dropna().unique()
    one_task = len(models) == 1 and len(datasets) == 1
    others = published_points(models[0], datasets[0]) if one_task else pd.DataFrame()
    if others.empty:
        return plot_front(trials, width=width)
    figure, (left, right) = new_figure(width, 2.9, panels=2)
    _draw_front(left, trials, OBJECTIVES, "val_top1", None)
    _draw_front(right, trials, OBJECTIVES, "test_top1", others)
    for ring in right.collections:
        if str(ring.get_label()).startswith("front by "):  # the same trials as in the left panel
            ring.set_label("front")
    put_legend(figure, [left, right], below=True)
    put_note(figure, without_cost(others))
    figure.suptitle(_title_of_front(trials, OBJECTIVES, "val_top1", width, "and published points"))
    return figure


def _draw_front(
    axes: Axes, trials: pd.DataFrame, objectives: Objectives, metric: str, published: pd.DataFrame | None
) -> None:
    if published is not None and metric != "test_top1":
        raise ValueError(f'published points are test accuracies, but got metric="{metric}"')
    unit, scale = flops_unit(finished(trials))
    if (cost := cost_of(objectives)) != "gflops":  # drawn in its place; that of the dense model is not known
        unit, scale, trials = COSTS[cost], 1.0, trials.assign(gflops=trials[cost], gflops_dense=float("nan"))
        objectives = tuple(("gflops" if column == cost else column, goal) for column, goal in objectives)
    axes.set(xlabel=WHAT[cost].format(unit), ylabel=METRICS.get(metric, metric))
    rows = finished(trials).dropna(subset=[metric, "gflops"])
    if rows.empty:
        axes.text(0.5, 0.5, f"no finished trial has {metric}", transform=axes.transAxes, ha="center", va="center")
        axes.set(xticks=[], yticks=[])
        return
    axes.set_xscale("log")
    dense = rows["gflops_dense"].dropna()
    none = pd.DataFrame(columns=["method", "test_top1", "gflops"], dtype=float)
    others = none if published is None else published.dropna(subset=["gflops"])
    if metric in METRICS:
        limit_accuracy(axes, pd.concat([rows[metric], others["test_top1"]]), "points")
    else:
        limit_values(axes, rows[metric])
    costs = pd.concat([rows["gflops"], dense, others["gflops"]])
    zero = place_of_zero(costs)
    rows, trials = (table.assign(gflops=table["gflops"].replace(0.0, zero)) for table in (rows, trials))
    limit_cost(
        axes,
        scale * costs.replace(0.0, zero),
        zero=scale * zero if (costs == 0).any() else None,
        room=0.22 if len(others) else 0.0,
    )
    _draw_published(axes, others, scale)
    for cost in dense.unique() * scale:
        _draw_dense_line(axes, cost, unit)
    repeats = is_replicate(rows)
    _draw_trials(axes, rows[~repeats], metric, scale)
    _draw_seeds(axes, rows[repeats], over_seeds(rows, metric), metric, scale)
    _draw_staircase(axes, front(trials, objectives).dropna(subset=[metric]), objectives, metric, scale)


def _draw_staircase(axes: Axes, chosen: pd.DataFrame, objectives: Objectives, metric: str, scale: float) -> None:
    """Draw rings around the trials of the front, and the line under which everything is dominated.

    If the objectives are not ``metric`` and gflops, e.g. for test accuracy, the front is not a staircase: rings only.
    """
    x, y = (chosen["gflops"] * scale).tolist(), chosen[metric].tolist()
    own = set(objectives) == {(metric, "max"), ("gflops", "min")}
    measures = [METRICS.get(column, column).removesuffix(" (%)") for column, _ in objectives if column != "gflops"]
    label = "front" if own else f"front by {' and '.join(measures)}"
    axes.scatter(
        x, y, s=60 if len(x) <= 200 else 12, facecolors="none", edgecolors="0.25", linewidths=0.8, label=label, zorder=2
    )
    if own:
        # A budget buys the best point at or below it: none before the first point, the last one up to the axis's end.
        end = axes.get_xlim()[1]
        axes.step([x[0], *x, end], [0.0, *y, y[-1]], where="post", color="0.25", linewidth=1.0, zorder=1.5)


def _draw_trials(axes: Axes, rows: pd.DataFrame, metric: str, scale: float) -> None:
    """Draw the trials by method; one below the axis becomes an arrow on its lower edge."""
    bottom = axes.get_ylim()[0]
    for method, group in by_method(rows):
        color, marker = style_of(method, rows["method"])
        shown = group.iloc[thin(group["gflops"] * scale, group[metric], axes)]
        dense = {"s": 1.5, "alpha": 0.4} if len(group) > MANY else {"s": 18}
        drawn = {**dense, "linewidths": 0, "color": color, "marker": marker, "label": method, "zorder": 3}
        axes.scatter(shown["gflops"] * scale, shown[metric], rasterized=len(shown) > RASTERISED, **drawn)
        below = group.loc[group[metric] < bottom, "gflops"] * scale
        edge = axes.get_xaxis_transform()
        axes.scatter(below, [0.03] * len(below), s=25, color=color, marker=BELOW, transform=edge, zorder=3)


def _draw_seeds(axes: Axes, replicates: pd.DataFrame, means: pd.DataFrame, metric: str, scale: float) -> None:
    """Draw every replicate as a faint point, and the mean of each replicated trial with its interval."""
    if replicates.empty:
        return
    for method, group in by_method(replicates):
        color, marker = style_of(method, [*replicates["method"], *means["method"]])
        axes.scatter(
            group["gflops"] * scale,
            group[metric],
            s=10,
            linewidths=0,
            color=color,
            marker=marker,
            alpha=0.35,
            zorder=2.5,
        )
    rows = means[means["seeds"] > 1]
    bars: dict[str, Any] = {"fmt": "_", "color": "0.25", "markersize": 5, "capsize": 1.5, "linewidth": 0.8}
    label = "mean of seeds, 95 % interval"
    axes.errorbar(rows["gflops"] * scale, rows["mean"], yerr=rows["half_width"], label=label, zorder=3.5, **bars)


def _draw_published(axes: Axes, points: pd.DataFrame, scale: float) -> None:
    """Draw a dotted line for each method, named at its cheap end, or in the legend where a label would cover points."""
    ends, drawn = [], {}
    named = room_for(axes, points["method"].nunique())
    style: dict[str, Any] = {"markerfacecolor": "white", "markersize": 3.5, "linestyle": ":", "linewidth": 0.9}
    for method, group in by_method(points):
        color, marker = style_of(method, points["method"])
        line = group.sort_values("gflops")
        label = f"_{method}" if named else f"{method}, published"
        short = shortened(method, 20)
        (drawn[short],) = axes.plot(
            line["gflops"] * scale,
            line["test_top1"],
            color=color,
            marker=marker,
            alpha=0.75,
            label=label,
            zorder=1,
            **style,
        )
        ends.append(End(line["gflops"].iloc[0] * scale, line["test_top1"].iloc[0], short, color))
    if named and ends:
        around = (points[["gflops", "test_top1"]] * (scale, 1.0)).to_numpy(dtype=float)
        for left_out in label_ends(axes, ends, side="left", around=around):
            drawn[left_out].set_label(f"{left_out}, published")
        axes.plot([], [], color="0.4", marker="o", label="published", **style)


def _draw_dense_line(axes: Axes, dense: float, unit: str) -> None:
    axes.axvline(dense, color="0.6", linewidth=0.8, zorder=0.5)
    axes.annotate(
        f"dense: {plain(float(f'{dense:.3g}'))} {unit}",
        (dense, 0.02),
        xycoords=axes.get_xaxis_transform(),
        xytext=(-3, 0),
        textcoords="offset points",
        rotation=90,
        ha="right",
        va="bottom",
        fontsize="small",
        color="0.4",
    )


def _title_of_front(trials: pd.DataFrame, objectives: Objectives, metric: str, width: float, more: str = "") -> str:
    measure = {"val_top1": "Validation accuracy", "test_top1": "Test accuracy"}.get(metric, metric)
    members, stopped = len(front(trials, objectives)), int((trials["status"] == "stopped").sum())
    early = f", {stopped} stopped early" if stopped else ""
    trained = f"{counted(len(finished(trials)), 'finished trial')}, {members:,} on the front{early}"
    shown = f"{measure} over inference cost{' ' + more if more else ''}: {task(trials)}"
    return f"{wrapped(shown, width)}\n{wrapped(trained, width)}"


def task(trials: pd.DataFrame) -> str:
    """Return what was trained, for a title: models on datasets."""
    models, datasets = (", ".join(sorted(trials[column].dropna().unique())) for column in ("model", "dataset"))
    return f"{models} on {datasets}"
