"""Plot published points alone: accuracy over sparsity, and over cost."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from st3sweep.analysis.axes import (
    by_method,
    limit_accuracy,
    limit_cost,
    note_without_cost,
    plain,
    style_of,
    wrapped,
)
from st3sweep.analysis.figures import PAGE, new_figure, put_legend, styled
from st3sweep.util.text import flops_unit

SPARSITIES = (0, 50, 60, 70, 75, 80, 85, 90, 93, 95, 96.5, 98, 99, 99.5, 99.9)  # labels of the axis, percent


@styled
def plot_published(points: pd.DataFrame, width: float = PAGE) -> Figure:
    """Plot the published points of one model and dataset: test accuracy over sparsity and over GFLOPs, by method.

    ``points`` are rows of ``tables.published()``. The axis of sparsity is logarithmic in density, so that equal steps
    are equal factors of weights left. The dense model is a horizontal line. Suspect rows have an open marker; the
    legend counts rows without a cost, which have no place in the right panel.

    Raises ValueError if there is no sparse point, or several models or datasets.
    """
    for column in ("model", "dataset"):
        if len(found := sorted(points[column].unique())) > 1:
            raise ValueError(f"one {column} a figure, but got {', '.join(found)}")
    dense, rows = points[points["method"] == "dense"], points[points["method"] != "dense"]
    if rows.empty:
        raise ValueError("no published point of a sparse model")
    figure, (left, right) = new_figure(width, 3.0, panels=2)
    _draw(left, rows.assign(x=100 * (1 - rows["sparsity"])))
    _label_sparsity(left)
    unit, scale = flops_unit(float(points["gflops"].max()))
    _draw(right, rows.assign(x=scale * rows["gflops"]).dropna(subset=["x"]), rows["method"])
    right.set(xlabel=f"inference cost of one image ({unit})", ylabel="test top-1 (%)")
    costs = scale * rows["gflops"].dropna()
    if len(costs):
        limit_cost(right, costs)
    for axes in (left, right):
        limit_accuracy(axes, pd.concat([rows["test_top1"], dense["test_top1"]]), "points")
        for accuracy in dense["test_top1"]:
            axes.axhline(accuracy, color="0.4", linewidth=1.0, linestyle="--", label="dense", zorder=0.5)
    _complete_legend(right, rows)
    note_without_cost(right, rows)
    put_legend(figure, [right], below=True)
    models, datasets = points["model"].iloc[0], points["dataset"].iloc[0]
    title = f"{len(rows)} published points of {rows['method'].nunique()} methods: {models} on {datasets}"
    figure.suptitle(wrapped(title, width))
    return figure


def _draw(axes: Axes, rows: pd.DataFrame, methods: pd.Series | None = None) -> None:
    axes.set(xscale="log", ylabel="test top-1 (%)")
    for method, group in by_method(rows):
        color, marker = style_of(method, rows["method"] if methods is None else methods)
        line = group.sort_values("x")
        trusted = (line["remark"] == "").to_numpy()
        axes.plot(line["x"], line["test_top1"], color=color, linewidth=0.8, alpha=0.8, zorder=1)
        style = {"color": color, "marker": marker, "linestyle": "none", "markersize": 3.5}
        axes.plot(line["x"][trusted], line["test_top1"][trusted], label=method, zorder=3, **style)
        axes.plot(line["x"][~trusted], line["test_top1"][~trusted], markerfacecolor="white", zorder=3, **style)


def _label_sparsity(axes: Axes) -> None:
    """Turn a log axis of density in percent into one of sparsity, which rises to the right."""
    low, high = axes.get_xlim()
    axes.set_xlim(high, low)
    ticks = [sparsity for sparsity in SPARSITIES if low <= 100 - sparsity <= high]
    axes.xaxis.set_major_locator(FixedLocator([100 - sparsity for sparsity in ticks]))
    axes.xaxis.set_major_formatter(FixedFormatter([plain(sparsity) for sparsity in ticks]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("sparsity (%)")


def _complete_legend(axes: Axes, rows: pd.DataFrame) -> None:
    """Add the methods that only the left panel shows, and what an open marker means."""
    shown = {line.get_label() for line in axes.lines}
    for method, _ in by_method(rows):
        if method not in shown:
            color, marker = style_of(method, rows["method"])
            axes.plot([], [], color=color, marker=marker, linestyle="none", label=f"{method} (left only)")
    if (rows["remark"] != "").any():
        axes.plot(
            [], [], color="0.3", marker="o", markerfacecolor="white", linestyle="none", label="suspect or unchecked"
        )
