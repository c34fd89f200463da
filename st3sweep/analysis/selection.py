"""Show the winner's curse: the front selects the best of noisy validation accuracies, so these are too high."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from st3sweep.analysis import noise
from st3sweep.analysis.axes import bulk, by_method, new_figure, style_of
from st3sweep.analysis.fronts import finished, front, mark_front, searched
from st3sweep.analysis.seeds import over_seeds, pooled_deviation

Floats = NDArray[np.float64]

_CHUNK = 2_000_000  # simulated accuracies in memory at a time


def selection_bias(trials: pd.DataFrame, validation_images: int | None = None, draws: int = 4000) -> pd.DataFrame:
    """Estimate by how much the validation accuracy of each trial on the front is too high, because it was selected.

    Returns the rows of ``fronts.front`` with the columns ``deviation`` (of one value's noise, in points), ``bias`` (in
    points; subtract it from ``val_top1``) and ``noise`` (where the deviation is from). That is "replicates", the pooled
    deviation between seeds, if there are any; else binomial noise of ``validation_images``, by default as many as the
    trials' settings say. The first predicts the mean over new seeds, the second the same weights on new images.

    A parametric bootstrap: takes the measured accuracies for true ones, adds normal noise ``draws`` times (the same
    noise in every call), and averages the noise of a trial where it is on the front. Too low rather than too high, so
    say "at least": measured accuracies differ more than true ones do. Of 100 trials that are truly equal it finds 0.44
    of the winner's bias. The choice of each trial's best epoch is not counted.

    Raises ValueError if there is neither a replicate nor a number of validation images.
    """
    table = over_seeds(trials)
    deviation, source = _noise(trials, table, validation_images)
    known = searched(trials)[["val_top1", "gflops"]].notna().all(axis=1).to_numpy()
    accuracy, cost = (searched(trials)[column].to_numpy(float)[known] for column in ("val_top1", "gflops"))
    bias = np.full(len(known), np.nan)
    bias[known] = _bootstrap(accuracy, cost, deviation[known], draws)
    return front(searched(trials).assign(deviation=deviation, bias=bias, noise=source))


def plot_selection(trials: pd.DataFrame, validation_images: int | None = None) -> Figure:
    """Plot test over validation accuracy of the finished trials, the front's members ringed.

    The full line is equal accuracy; the dashed one is where the front is expected by ``selection_bias``, its mean over
    the front. It is missing where the noise is not known, which the legend says. Replicates are left out.
    """
    rows = searched(mark_front(trials)).dropna(subset=["val_top1", "test_top1"])
    figure, (axes,) = new_figure(9.0, 5.5)
    axes.set(xlabel="validation top-1 (%)", ylabel="test top-1 (%)")
    figure.suptitle(f"{len(finished(trials))} finished trials: validation and test accuracy")
    if rows.empty:
        axes.text(0.5, 0.5, "no finished trial has both", transform=axes.transAxes, ha="center", va="center")
        axes.set(xticks=[], yticks=[])
        return figure
    axes.set_xlim(*bulk(rows["val_top1"]))
    axes.set_ylim(*bulk(rows["test_top1"]))
    _note_hidden(axes, rows)
    for method, group in by_method(rows):
        color, marker = style_of(method, rows["method"])
        axes.scatter(group["val_top1"], group["test_top1"], s=45, color=color, marker=marker, label=method, zorder=3)
    members = rows[rows["on_front"]]
    ring: dict[str, Any] = {"facecolors": "none", "edgecolors": "0.25", "linewidths": 1.0, "zorder": 2}
    axes.scatter(members["val_top1"], members["test_top1"], s=150, label="front", **ring)
    _draw_lines(axes, trials, validation_images)
    axes.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    _draw_gaps(axes, rows)
    return figure


def _note_hidden(axes: Axes, rows: pd.DataFrame) -> None:
    """Note above the axes how many trials, collapsed ones, lie outside."""
    hidden = rows[(rows["val_top1"] < axes.get_xlim()[0]) | (rows["test_top1"] < axes.get_ylim()[0])]
    if len(hidden):
        note = f"{len(hidden)} of {len(rows)} trials outside the axes (test down to {hidden['test_top1'].min():.1f} %)"
        axes.set_title(note, loc="right", fontsize=9, color="0.4")


def _draw_lines(axes: Axes, trials: pd.DataFrame, validation_images: int | None) -> None:
    place = (float(np.mean(axes.get_xlim())),) * 2
    axes.axline(place, slope=1, color="0.6", linewidth=1.0, label="equal")
    try:
        table = selection_bias(trials, validation_images)
    except ValueError:
        axes.plot(
            [], [], linestyle="none", label="noise unknown:\nno replicates, and the number\nof images is not known"
        )
        return
    if table.empty:  # no cost is known, so nothing is on the front
        return
    bias = float(table["bias"].mean())
    label = f"front, expected: {bias:.2f} or more lower\n(noise: {table['noise'].iloc[0]})"
    axes.axline((place[0], place[1] - bias), slope=1, color="0.25", linewidth=1.0, linestyle="--", label=label)


def _draw_gaps(axes: Axes, rows: pd.DataFrame) -> None:
    """Write the mean of validation minus test accuracy, of the front and of the other trials.

    The gap of the others is no selection of the front: the test images may be harder, and best epochs were selected.
    """
    gaps = (rows["val_top1"] - rows["test_top1"]).groupby(rows["on_front"]).mean()
    parts = [f"{name} {gaps[chosen]:+.2f}" for name, chosen in (("front", True), ("others", False)) if chosen in gaps]
    text = "mean of validation − test: " + ", ".join(parts)
    axes.text(0.98, 0.03, text, transform=axes.transAxes, ha="right", va="bottom", fontsize=9, color="0.25")


def _noise(trials: pd.DataFrame, table: pd.DataFrame, images: int | None) -> tuple[Floats, str]:
    """Return the deviation of each row's one measured accuracy, and where it is from."""
    if (table["seeds"] > 1).any():
        return np.full(len(table), pooled_deviation(table)), "replicates"
    if images is None:
        images = noise.validation_images(trials)
    if images is None:
        raise ValueError("the noise is not known: no trial has a replicate, and validation_images was not given")
    accuracy = table["val_top1"].to_numpy(float)
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
