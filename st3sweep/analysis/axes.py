"""Shared parts of the axes: style of a method, ticks of a log axis, limits of axes, colours of target sparsities."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullFormatter

from st3sweep.util.text import counted

# A method has the same colour and marker in every figure; methods not listed here come after these.
METHODS = ("ST-3", "ST-3σ", "dense", "GMP", "STR", "ProbMask", "RigL", "RigL+ERK", "GraNet", "DNW", "AC/DC", "Feather")
MARKERS = ("o", "s", "*", "v", "D", "P", "<", ">", "^", "X", "h", "p")
# Leading digits of a log axis's ticks, from the fewest ticks to the most.
TICK_DIGITS = ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0))


def style_of(method: str, methods: Iterable[str]) -> tuple[Any, str]:
    """Return colour (of the colour-blind palette) and marker of ``method`` in a figure that shows ``methods``."""
    number = _ordered(methods).index(method)
    palette = sns.color_palette("colorblind")
    turn, place = divmod(number, len(palette))
    # Each further round of colours is darker; there are more markers than colours, so it has others.
    shade = tuple(channel * 0.55**turn for channel in palette[place])
    return shade, MARKERS[number % len(MARKERS)]


def _ordered(methods: Iterable[str]) -> list[str]:
    found = methods.unique() if isinstance(methods, pd.Series) else methods
    return [*METHODS, *sorted(set(found) - set(METHODS))]


def by_method(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield each method that has rows, with its rows, in the order of the legend."""
    groups = {str(method): group for method, group in rows.groupby("method", sort=False)}
    for method in _ordered(list(groups)):
        if method in groups:
            yield method, groups[method]


def target_colors(trials: pd.DataFrame) -> ScalarMappable:
    """Return a colour map of ``sparsity_of`` in percent, light to dark, readable on white; grey for 0 and NaN.

    It spans the sparse trials: a dense one beside them would take most of the colours for a range without a trial.
    """
    targets = 100 * sparsity_of(trials).dropna().to_numpy(dtype=float)
    targets = targets[targets > 0]
    low, high = (targets.min(), targets.max()) if len(targets) else (0.0, 100.0)
    colors: Colormap = sns.color_palette("flare", as_cmap=True)
    return ScalarMappable(Normalize(low - 0.5, high + 0.5), colors.with_extremes(bad="0.5", under="0.5"))


def sparsity_of(trials: pd.DataFrame) -> pd.Series:
    """Return the target sparsity of each trial, or its final sparsity if the target was a budget."""
    return trials["sparsity_target"].fillna(trials["sparsity"])


def bulk(values: pd.Series) -> tuple[float, float]:
    """Return the limits of an axis that shows the bulk of ``values`` in percent, at least one of which is known.

    Values more than three interquartile ranges below the lower quartile are cut off: collapsed trials, but not the
    steep end of a front.
    """
    points = values.dropna().to_numpy(dtype=float)
    lower, upper = np.quantile(points, (0.25, 0.75))
    shown = points[points >= lower - 3 * max(upper - lower, 1.0)]
    margin = max(0.06 * (shown.max() - shown.min()), 0.3)
    return float(shown.min() - margin), float(shown.max() + margin)


def limit_accuracy(axes: Axes, values: pd.Series, what: str) -> None:
    """Limit the y axis to the ``bulk`` of ``values`` in percent, and note above it how many are below."""
    points = values.dropna().to_numpy(dtype=float)
    if not len(points):
        return
    bottom, top = bulk(values)
    axes.set_ylim(bottom, top)
    if below := (points < bottom).sum():
        note = f"{below} of {len(points)} {what} below the axis (down to {points.min():.1f} %)"
        axes.set_title(note, loc="right", fontsize="small", color="0.4")


def limit_values(axes: Axes, values: pd.Series) -> None:
    """Limit the y axis to ``values``, of any unit, with a margin."""
    low, high = float(values.min()), float(values.max())
    margin = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    axes.set_ylim(low - margin, high + margin)


def place_of_zero(costs: pd.Series) -> float:
    """Return where a log axis of ``costs`` shows 0: a third of a decade below the least positive one."""
    positive = costs[(costs > 0) & np.isfinite(costs)]
    return float(positive.min()) * 10 ** (-1 / 3) if len(positive) else 1.0


def limit_cost(axes: Axes, values: pd.Series, zero: float | None = None, room: float = 0.0) -> None:
    """Limit the log x axis to ``values``, which are above 0, with a margin, also around a single value.

    ``zero`` is the place of trials that cost nothing: labelled 0, left of a dotted line. ``room`` leaves that fraction
    of the width free on the left, for labels.
    """
    values = values[(values > 0) & np.isfinite(values)]
    if values.empty:
        return
    margin = max((values.max() / values.min()) ** 0.05, 1.1)
    low, high = values.min() / margin, values.max() * margin
    axes.set_xlim(low * (low / high) ** (room / (1 - room)), high)
    label_log_axis(axes.xaxis, *axes.get_xlim(), zero=zero)
    if zero is not None:
        axes.axvline(zero * 10 ** (1 / 6), color="0.6", linewidth=0.8, linestyle=":", zorder=0.5)


def without_cost(points: pd.DataFrame) -> str:
    """Say how many rows of ``points`` have no cost, and so no place on its axis; nothing if all have one."""
    missing = points[points["gflops"].isna()]
    names = ", ".join(dict.fromkeys(missing["method"]))
    return f"not drawn over cost: {counted(len(missing), 'point')} of unknown cost ({names})" if len(missing) else ""


def label_log_axis(axis: Axis, low: float, high: float, zero: float | None = None) -> None:
    """Label a log axis from ``low`` to ``high`` with at least four plain numbers, also within one decade.

    At ``zero``, if given, the label is 0, and the numbers begin above it.
    """
    ticks = _log_ticks(low if zero is None else zero * 10 ** (1 / 6), high)
    labels = [plain(tick) for tick in ticks]
    if zero is not None:
        ticks, labels = [zero, *ticks], ["0", *labels]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FixedFormatter(labels))
    axis.set_minor_formatter(NullFormatter())


def _log_ticks(low: float, high: float) -> list[float]:
    powers = [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    for digits in TICK_DIGITS:
        ticks = [digit * power for power in powers for digit in digits if low <= digit * power <= high]
        if len(ticks) >= 4:
            return ticks
    return [float(tick) for tick in MaxNLocator(6).tick_values(low, high) if low <= tick <= high]


def plain(value: float) -> str:
    """Format ``value`` as a decimal number without exponent or trailing zeros."""
    return f"{value:.9f}".rstrip("0").rstrip(".")


def label_layers(axes: Axes, positions: pd.Series, names: pd.Series) -> None:
    """Label the x axis with the names of layers, upright; of more than 24 layers, every second, third, ... one."""
    step = -(-len(positions) // 24)
    axes.set_xticks(positions.iloc[::step], names.iloc[::step], rotation=90, fontsize="small")


def wrapped(text: str, width: float) -> str:
    """Break a title into lines that fit a figure of ``width`` inches."""
    return "\n".join(textwrap.wrap(text, max(20, int(15 * width))))
