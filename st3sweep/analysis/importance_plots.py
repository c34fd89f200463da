"""Plot what matters in a search: importance of settings, their interactions, and slices along each."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from st3sweep.analysis.axes import label_log_axis, wrapped
from st3sweep.analysis.figures import NARROW, PAGE, new_figure, put_note, styled
from st3sweep.analysis.forests import AT_EQUAL_COST

MATTERS, UNTOLD = "#0072b2", "0.6"
_NAMES = {"val_top1": "validation top-1", "gflops": "inference cost"}


@styled
def plot_importance(table: pd.DataFrame, width: float = PAGE) -> Figure:
    """Plot the output of ``importance``: a panel for each measure, a row for each setting, with its spread.

    Blue settings matter, grey ones cannot be told from noise; the axis starts at or below 0.
    """
    rows = table.assign(name=table["setting"])
    return _bars(rows, f"Importance of the searched settings, {_trials(table)}", width)


@styled
def plot_interactions(table: pd.DataFrame, width: float = PAGE, pairs: int = 6) -> Figure:
    """Plot the strongest ``pairs`` of the output of ``interactions``, as ``plot_importance`` does settings."""
    rows = table.assign(name=table["first"] + " ×\n" + table["second"]).groupby("of", sort=False).head(pairs)
    return _bars(rows, f"Settings that act together, {_trials(table)}", width, shared=True)


@styled
def plot_slices(table: pd.DataFrame, width: float = PAGE, of: str | None = None) -> Figure:
    """Plot one measure of the output of ``slices`` along each setting, a panel each, with the spread over forests.

    ``of`` is the measure, by default the last: accuracy at equal cost if it is there. An axis is logarithmic where the
    values span a factor of 20 or more. All panels share their y axis. A setting of one value has no panel.
    """
    measures = table["of"].drop_duplicates().tolist()
    of = of if of is not None else measures[-1] if measures else ""
    rows = table[table["of"] == of]
    values = rows.groupby("setting", sort=False).size()
    names = values[values > 1].index.tolist()
    across = 2 if width < NARROW else 3
    figure, panels = new_figure(width, 1.7, panels=len(names), columns=3, narrow=2)
    for place, (axes, name) in enumerate(zip(panels, names, strict=False)):
        _draw_slice(axes, rows[rows["setting"] == name])
        axes.set_xlabel(name)
        if place % across == 0:
            axes.set_ylabel("points above usual" if of == "val_top1" + AT_EQUAL_COST else _name(of))
    if names:
        shown = rows[rows["setting"].isin(names)]
        low, high = float(shown["low"].min()), float(shown["high"].max())
        for axes in panels:
            axes.set_ylim(low - 0.05 * (high - low or 1.0), high + 0.05 * (high - low or 1.0))
    if not names:
        _say(panels[0], "no measure that can be followed: see the verdicts of importance")
    figure.suptitle(wrapped(f"Predicted {_name(of) or 'measures'} along each setting, the others as tried", width))
    return figure


def _bars(rows: pd.DataFrame, title: str, width: float, *, shared: bool = False) -> Figure:
    measures = rows["of"].drop_duplicates().tolist()
    known = rows.dropna(subset=["importance"])
    most = int(known.groupby("of").size().max()) if len(known) else 1
    lines = 1 + int(known["name"].str.count("\n").max()) if len(known) else 1
    columns = min(3, max(1, len(measures))) if len(measures) <= 2 or lines == 1 else 1
    figure, panels = new_figure(width, 0.7 + 0.17 * lines * most, panels=len(measures), columns=columns)
    figure.suptitle(wrapped(title, width))
    for place, (axes, of) in enumerate(zip(panels, measures, strict=False)):
        own = rows[rows["of"] == of].iloc[::-1]
        axes.set_title(f"of {_name(of)}".replace(" at equal", "\nat equal"), loc="left")
        if own["importance"].isna().all():
            across = int(14 * width / (columns if width >= NARROW else 1))
            _say(axes, "\n".join(textwrap.fill(words, across) for words in own["verdict"].drop_duplicates()))
            continue
        y = np.arange(len(own))
        for verdict, color in (("matters", MATTERS), ("cannot be told", UNTOLD)):
            here = (own["verdict"] == verdict).to_numpy()
            spread = [
                (own["importance"] - own["low"]).clip(lower=0)[here],
                (own["high"] - own["importance"]).clip(lower=0)[here],
            ]
            axes.barh(y[here], own["importance"][here], height=0.6, color=color, alpha=0.45, linewidth=0)
            axes.errorbar(
                own["importance"][here], y[here], xerr=spread, fmt="o", markersize=3, color=color, linewidth=0.8
            )
        first = rows[rows["of"] == measures[0]].iloc[::-1]
        same = columns > 1 and width >= NARROW and place and own["name"].tolist() == first["name"].tolist()
        axes.set_yticks(y, [] if same else own["name"].tolist(), fontsize="small")
        axes.axvline(0, color="0.4", linewidth=0.6)
        axes.grid(False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel("fraction of the variance")
    if shared:
        high = float(known[["importance", "high"]].max().max()) if len(known) else 1.0
        for axes in panels:
            axes.set_xlim(min(0.0, float(known["low"].min()) if len(known) else 0.0), 1.05 * high)
    if not measures:
        _say(panels[0], "no setting varies")
    elif len(known):
        put_note(figure, "blue: matters; grey: cannot be told from noise")
    return figure


def _draw_slice(axes: Axes, rows: pd.DataFrame) -> None:
    if rows["value"].notna().all() and len(rows) > 1:
        x = rows["value"].to_numpy()
        if x.min() > 0 and x.max() / x.min() >= 20:
            axes.set_xscale("log")
            if x.max() / x.min() < 200:
                label_log_axis(axes.xaxis, x.min(), x.max())
            else:  # plain numbers would be too long for a small panel
                axes.xaxis.set_major_locator(LogLocator(numticks=5))
        axes.fill_between(x, rows["low"], rows["high"], color=MATTERS, alpha=0.2, linewidth=0)
        axes.plot(x, rows["mean"], color=MATTERS)
        axes.tick_params(axis="x", labelsize="small")
        return
    places = np.arange(len(rows))
    spread = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
    axes.errorbar(places, rows["mean"], yerr=[part.clip(lower=0) for part in spread], fmt="o", color=MATTERS)
    long = rows["level"].str.len().sum() > 14
    axes.set_xticks(places, rows["level"], rotation=90 if long else 0, fontsize="small")
    axes.set_xlim(-0.5, len(rows) - 0.5)


def _say(axes: Axes, words: str) -> None:
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", wrap=True)
    axes.set(xticks=[], yticks=[])


def _name(of: str) -> str:
    metric, equal, _ = of.partition(AT_EQUAL_COST)
    return _NAMES.get(metric, metric) + (" at equal cost" if equal else "")


def _trials(table: pd.DataFrame) -> str:
    return f"{table['trials'].max()} trials" if len(table) else "no trial"
