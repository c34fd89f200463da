"""Plot published points alone: accuracy over sparsity, and over cost."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from st3sweep.analysis.axes import (
    by_method,
    limit_accuracy,
    limit_cost,
    plain,
    style_of,
    without_cost,
    wrapped,
)
from st3sweep.analysis.figures import PAGE, new_figure, put_legend, put_note, shortened, styled
from st3sweep.analysis.labels import End, label_ends, room_for
from st3sweep.util.text import counted, flops_unit

SPARSITIES = (0, 50, 60, 70, 75, 80, 85, 90, 93, 95, 96.5, 98, 99, 99.5, 99.9)  # labels of the axis, percent


@styled
def plot_published(points: pd.DataFrame, width: float = PAGE) -> Figure:
    """Plot the published points of one model and dataset: test accuracy over sparsity and over GFLOPs, by method.

    ``points`` are rows of ``tables.published()``. The axis of sparsity is logarithmic in density, so that equal steps
    are equal factors of weights left. Each line is named where the fewest weights are left, and where the cost is
    least; in a legend if they are too many. The dense model is a horizontal line. Suspect rows have an open marker; a
    note counts rows without a cost, which have no place in the right panel.

    Raises ValueError if there is no sparse point, or several models or datasets.
    """
    for column in ("model", "dataset"):
        if len(found := sorted(points[column].unique())) > 1:
            raise ValueError(f"one {column} a figure, but got {', '.join(found)}")
    dense, rows = points[points["method"] == "dense"], points[points["method"] != "dense"]
    if rows.empty:
        raise ValueError("no published point of a sparse model")
    figure, (left, right) = new_figure(width, 3.0, panels=2)
    unit, scale = flops_unit(float(points["gflops"].max()))
    over_density = rows.assign(x=100 * (1 - rows["sparsity"]))
    over_cost = rows.assign(x=scale * rows["gflops"]).dropna(subset=["x"])
    named = room_for(left, rows["method"].nunique())
    for axes, table in ((left, over_density), (right, over_cost)):
        limit_accuracy(axes, pd.concat([rows["test_top1"], dense["test_top1"]]), "points")
        _draw(axes, table, rows["method"])
        for accuracy in dense["test_top1"]:
            axes.axhline(accuracy, color="0.4", linewidth=1.0, linestyle="--", label="dense", zorder=0.5)
    _label_sparsity(left)
    right.set(xlabel=f"inference cost of one image ({unit})", ylabel="test top-1 (%)")
    if len(over_cost):
        limit_cost(right, over_cost["x"], room=0.2 if named else 0.0)
    if named:
        told = _name_lines(left, over_density, rows["method"], side="right")
        told |= _name_lines(right, over_cost, rows["method"], side="left")
        for line in left.lines:
            if line.get_label() in (*told, "dense"):
                line.set_label(f"_{line.get_label()}")  # not in the legend
        for accuracy in dense["test_top1"]:
            for axes, place, align in ((left, 1.0, "right"), (right, 0.01, "left")):
                style: dict[str, Any] = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points"}
                axes.annotate(
                    "dense", (place, accuracy), xytext=(0, 2), ha=align, fontsize="small", color="0.3", **style
                )
    put_legend(figure, [left], below=True)
    open_markers = "open markers: suspect or unchecked points" if (rows["remark"] != "").any() else ""
    put_note(figure, open_markers, without_cost(rows))
    models, datasets = points["model"].iloc[0], points["dataset"].iloc[0]
    methods = counted(rows["method"].nunique(), "method")
    title = f"{counted(len(rows), 'published point')} of {methods}: {models} on {datasets}"
    figure.suptitle(wrapped(title, width))
    return figure


def _draw(axes: Axes, rows: pd.DataFrame, methods: pd.Series) -> None:
    axes.set(xscale="log", ylabel="test top-1 (%)")
    for method, group in by_method(rows):
        color, marker = style_of(method, methods)
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


def _name_lines(axes: Axes, rows: pd.DataFrame, methods: pd.Series, side: str) -> set[str]:
    """Name each method at its least x: the right end of the axis of sparsity, the left one of that of cost.

    Returns the methods that found room.
    """
    ends = []
    for method, group in by_method(rows):
        last = group.sort_values("x").iloc[0]
        ends.append(End(last["x"], last["test_top1"], shortened(method, 20), style_of(method, methods)[0]))
    left_out = label_ends(axes, ends, side=side, around=rows[["x", "test_top1"]].to_numpy(dtype=float))
    return {method for (method, _), end in zip(by_method(rows), ends, strict=True) if end.text not in left_out}
