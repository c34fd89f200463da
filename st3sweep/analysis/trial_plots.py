"""Plot the trials of a run: accuracy and sparsity over their epochs, and the density of their layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from st3sweep.analysis.axes import (
    MARKERS,
    label_layers,
    label_log_axis,
    limit_accuracy,
    place_of_zero,
    sparsity_of,
    target_colors,
    wrapped,
)
from st3sweep.analysis.figures import NARROW, PAGE, new_figure, put_legend, shortened, styled
from st3sweep.analysis.plots import METRICS, task
from st3sweep.util.text import counted


@styled
def plot_ramp(epochs: pd.DataFrame, trials: pd.DataFrame, width: float = PAGE) -> Figure:
    """Plot validation accuracy, sparsity and threshold after each epoch, a line a trial, coloured by target sparsity.

    A cross ends the line of a trial that was stopped early. Without a threshold, as in runs of earlier versions, there
    is no panel of it.
    """
    with_threshold = "threshold" in epochs and bool(epochs["threshold"].notna().any())
    figure, panels = new_figure(width, 2.1, panels=3 if with_threshold else 2, columns=1)
    upper, lower, last_panel = panels[0], panels[1], panels[-1]
    colors = target_colors(trials)
    place = "bottom" if width < NARROW else "right"
    figure.colorbar(colors, ax=panels, label="target sparsity (%)", aspect=40, location=place)
    for trial, rows in _by_trial(epochs, trials, order="epoch"):
        shade = colors.to_rgba(trial["shade"])
        upper.plot(rows["epoch"], rows["val_top1"], color=shade, linewidth=0.8)
        lower.plot(rows["epoch"], 100 * rows["sparsity"], color=shade, linewidth=0.8)
        if with_threshold and rows["threshold"].notna().any():
            last_panel.plot(rows["epoch"], rows["threshold"], color=shade, linewidth=0.8)
        if trial["status"] == "stopped":
            last = rows.iloc[-1]
            upper.scatter(last["epoch"], last["val_top1"], color=[shade], marker="x", s=16)
    limit_accuracy(upper, epochs["val_top1"], "epochs")
    upper.set_ylabel(METRICS["val_top1"])
    lower.set_ylabel("sparsity (%)")
    if with_threshold:
        last_panel.set_ylabel("mean threshold τ")
    for axes in panels[:-1]:
        axes.sharex(last_panel)
        axes.tick_params(labelbottom=False)
    last_panel.set_xlabel("epoch")
    last_panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    what = "Accuracy, sparsity and threshold" if with_threshold else "Accuracy and sparsity"
    title = f"{what} over the epochs of {counted(len(upper.lines), 'trial')}: {task(trials)}"
    figure.suptitle(wrapped(title, width))
    return figure


@styled
def plot_layers(layers: pd.DataFrame, trials: pd.DataFrame, width: float = PAGE) -> Figure:
    """Plot the density in percent (log scale) of each layer in forward order, a line for each of ``trials``.

    Lines are lighter to darker in the order of the trials' sparsity, and their markers differ.
    """
    figure, (axes,) = new_figure(width, 3.2)
    axes.set(yscale="log", ylabel="density of the layer (%)")
    zero = place_of_zero(100 * layers["density"])  # of layers without a weight
    lines = list(_by_trial(layers, trials.sort_values("sparsity", kind="stable"), order="position"))
    for number, ((trial, rows), shade) in enumerate(zip(lines, sns.color_palette("flare", len(lines)), strict=True)):
        label = f"{trial['trial']}: {shortened(str(trial['method']), 20)}, {100 * trial['sparsity']:.1f} %"
        shares = (100 * rows["density"]).replace(0.0, zero)
        style: dict[str, Any] = {"marker": MARKERS[number % len(MARKERS)], "markersize": 3.5, "label": label}
        axes.plot(rows["position"], shares, color=shade, **style)
        label_layers(axes, rows["position"], rows["layer"])
    if drawn := len(axes.lines):
        label_log_axis(axes.yaxis, *axes.get_ylim(), zero=zero if (layers["density"] == 0).any() else None)
        put_legend(figure, [axes], title="trial, method, sparsity")
    figure.suptitle(wrapped(f"Density of each layer of {counted(drawn, 'trial')}: {task(trials)}", width))
    return figure


def _by_trial(table: pd.DataFrame, trials: pd.DataFrame, order: str) -> Iterator[tuple[pd.Series, pd.DataFrame]]:
    """Yield each of ``trials`` that has rows in ``table`` (epochs or layers), with those rows sorted by ``order``.

    Adds the field ``shade``, the input of ``target_colors``.
    """
    keys = [key for key in ("run", "trial") if key in table and key in trials]
    groups = dict(iter(table.sort_values(order).groupby(keys)))
    for _, trial in trials.assign(shade=100 * sparsity_of(trials)).iterrows():
        if (key := tuple(trial[keys])) in groups:
            yield trial, groups[key]
