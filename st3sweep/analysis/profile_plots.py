"""Plot where models keep their weights, how trainings went, and the timeline of a sweep."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from st3sweep.analysis.axes import by_method, label_layers, label_log_axis, style_of, wrapped
from st3sweep.analysis.figures import PAGE, new_figure, put_legend, shortened, styled
from st3sweep.analysis.labels import End, label_ends
from st3sweep.analysis.layer_profiles import GROUPS
from st3sweep.util.text import counted

_GROUP_COLORS = dict(zip(GROUPS, ("#0072b2", "#de8f05", "0.55"), strict=True))
_GROUP_MARKERS = dict(zip(GROUPS, ("o", "s", "^"), strict=True))
_STATUS_COLORS = {"finished": "#56b4e9", "stopped": "#de8f05", "failed": "#cc3311", "running": "0.6"}
_LABELS = {
    "ratio": "scheduled sparsity (%)", "sparsity": "sparsity (%)", "gflops": "cost (GFLOPs)",
    "gflops_final": "projected cost (GFLOPs)", "val_top1": "validation top-1 (%)", "flip_rate": "mask flips (%)",
    "threshold": "threshold τ",
    "mismatch": "mismatch |θ̂ − θ| / |θ|", "lr": "learning rate",
}  # fmt: skip
FEW = 4  # groups that are named at the end of their lines
_PERCENT = ("ratio", "sparsity", "flip_rate")


@styled
def plot_layer_profiles(table: pd.DataFrame, width: float = PAGE) -> Figure:
    """Plot the output of ``layer_profiles``: each layer's density over its model's, and its share of the compute.

    Lines are medians of the groups, bands their quartiles.
    """
    figure, panels = new_figure(width, 2.9, panels=2)
    left, right = panels
    left.set(yscale="log", ylabel="density / model's density")
    right.set(ylabel="share of compute (%)")
    for group in GROUPS:
        rows = table[table["group"] == group]
        if rows.empty:
            continue
        style: dict[str, Any] = {"color": _GROUP_COLORS[group], "marker": _GROUP_MARKERS[group], "markersize": 3}
        label = f"{group} ({counted(int(rows['trials'].max()), 'trial')})"
        left.plot(rows["position"], rows["relative"].replace(0, np.nan), label=label, **style)
        band: dict[str, Any] = {"color": _GROUP_COLORS[group], "alpha": 0.15, "linewidth": 0}
        left.fill_between(rows["position"], rows["relative_low"], rows["relative_high"], **band)
        right.plot(rows["position"], 100 * rows["macs_share"], **style)
        for axes in panels:
            label_layers(axes, rows["position"], rows["layer"])
    if left.lines:
        low, high = left.get_ylim()
        label_log_axis(left.yaxis, low, high)
        left.set_ylim(low, high)
        left.axhline(1, color="0.4", linewidth=0.6)
        put_legend(figure, [left], below=True)
    figure.suptitle(wrapped("Where the front and its neighbours keep their weights, layer by layer", width))
    return figure


@styled
def plot_training_curves(
    table: pd.DataFrame,
    measures: tuple[str, ...] = ("ratio", "threshold", "val_top1", "flip_rate", "mismatch"),
    width: float = PAGE,
) -> Figure:
    """Plot ``measures`` of the output of ``training_curves``, a panel each for those that were recorded.

    Lines are medians of the groups; up to ``FEW`` groups are named at the end of their lines, with their quartiles.
    """
    groups = [group for group, _ in by_method(table.assign(method=table["group"]))]
    known = [measure for measure in measures if (table["measure"] == measure).any()]
    figure, panels = new_figure(width, 2.1, panels=len(known))
    for axes, measure in zip(panels, known, strict=False):
        scale, ends = 100 if measure in _PERCENT else 1, []
        for group in groups:
            rows = table[(table["group"] == group) & (table["measure"] == measure)]
            if rows.empty:
                continue
            color, _ = style_of(group, groups)
            axes.plot(rows["epoch"], scale * rows["median"], color=color, label=group)
            ends.append(End(rows["epoch"].iloc[-1], scale * rows["median"].iloc[-1], shortened(group, 20), color))
            if len(groups) <= FEW:
                low, high = scale * rows["low"], scale * rows["high"]
                axes.fill_between(rows["epoch"], low, high, color=color, alpha=0.15, linewidth=0)
        axes.set(xlabel="epoch", ylabel=_LABELS.get(measure, measure))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(groups) <= FEW:
            label_ends(axes, ends)
    if not known:
        panels[0].text(0.5, 0.5, "none of these is recorded", transform=panels[0].transAxes, ha="center", va="center")
    if len(groups) > FEW:
        put_legend(figure, panels, below=True)
    bands = " with quartiles" if len(groups) <= FEW else ""
    shown = ", ".join(
        _LABELS.get(measure, measure).split(" (")[0].split(" |")[0].removesuffix(" τ") for measure in known
    )
    title = f"{shown[:1].upper()}{shown[1:]} over the epochs: medians{bands} of {counted(len(groups), 'group')}"
    figure.suptitle(wrapped(title, width))
    return figure


@styled
def plot_timeline(table: pd.DataFrame, width: float = PAGE) -> Figure:
    """Plot the output of ``timeline``: a bar for each trial, in order of arrival, over time or over epochs trained.

    Over wall time where it is known for all trials that are over, else over the fraction of the training. Colours are
    the outcome; a dot ends the bar of a trial on the front.
    """
    runs = table["run"].nunique()
    if runs > 1:
        raise ValueError(f"a timeline is of one run, but got {runs}")
    over = table["status"] != "running"
    timed = bool(over.any() and table.loc[over, "end_seconds"].notna().all())
    seconds = float(table["end_seconds"].max()) if timed else 1.0
    unit, per = ("hours", 3600.0) if seconds >= 7200 else ("minutes", 60.0) if seconds >= 120 else ("seconds", 1.0)
    figure, (axes,) = new_figure(width, float(np.clip(0.6 + 0.035 * len(table), 2.0, 7.0)))
    rows = table.assign(place=np.arange(len(table)))
    for status, color in _STATUS_COLORS.items():
        own = rows[rows["status"] == status]
        if own.empty:
            continue
        begin = own["begin_seconds"] / per if timed else pd.Series(0.0, index=own.index)
        end = own["end_seconds"] / per if timed else 100 * own["trained"]
        label = {"stopped": "stopped early"}.get(status, status)
        axes.barh(own["place"], end - begin, left=begin, height=0.8, color=color, linewidth=0, label=label)
    members = rows[rows["on_front"]]
    ends = members["end_seconds"] / per if timed else 100 * members["trained"]
    axes.plot(ends, members["place"], "o", color="0.15", markersize=2.5, label="on the front", zorder=3)
    axes.set(xlabel=f"wall time ({unit})" if timed else "training done (%)", ylabel="trial, in order of arrival")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    put_legend(figure, [axes])
    stopped = int((table["status"] == "stopped").sum())
    saved = 1 - table["trained"].sum() / max(1, len(table)) if stopped else 0.0
    words = f"{counted(len(table), 'trial')}, {stopped} stopped early"
    spared = f", {100 * saved:.0f} % of the epochs not trained" if stopped else ""
    figure.suptitle(wrapped(f"Timeline of the sweep: {words}{spared}", width))
    return figure
