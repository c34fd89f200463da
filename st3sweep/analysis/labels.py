"""Name lines where they end, in their own colour, so that a reader need not look them up in a legend."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

LINE = 8.5  # points from one label to the next
AWAY = 4.0  # points from the end of the line to its label
_TOGETHER = 0.2  # labels whose ends are closer than this fraction of the panel's width could cover each other
_PANEL = 0.75  # fraction of a figure's size that its panels have, before the layout is known
_CHARACTER = 3.8  # points of one, on average
_HALO = withStroke(linewidth=1.5, foreground="white")


class End(NamedTuple):
    """Where a line ends, in data coordinates, and what it is."""

    x: float
    y: float
    text: str
    color: Any


def room_for(axes: Axes, labels: int) -> bool:
    """Return whether so many labels fit above each other in the panel ``axes``."""
    return bool(labels * LINE <= _size(axes)[1])


def label_ends(
    axes: Axes, ends: Iterable[End], *, side: str = "right", around: NDArray[np.float64] | None = None
) -> list[str]:
    """Write the text of each end beside it, ``side`` right or left, apart from the others. Set the limits first.

    A label that would cover one of the points ``around``, (n, 2) in data coordinates, is left out. Returns the texts of
    those.
    """
    known = sorted(ends, key=lambda end: end.y)
    if not known:
        return []
    points = np.array([(end.x, end.y) for end in known], dtype=float)
    size = _size(axes)
    at = _inside(axes, points) * size
    places = np.empty(len(known))
    for group in _groups(at[:, 0], _TOGETHER * size[0]):
        places[group] = spread(at[group, 1], LINE)
    sign = 1 if side == "right" else -1
    others = _inside(axes, around) * size if around is not None else np.empty((0, 2))
    left_out = []
    for end, (x, y), place in zip(known, at.tolist(), places.tolist(), strict=True):
        begin, length = x + sign * AWAY, _CHARACTER * len(end.text)
        across = sign * (others[:, 0] - begin)
        if ((across > 0) & (across < length) & (np.abs(others[:, 1] - place) < LINE / 2)).any():
            left_out.append(end.text)
            continue
        axes.annotate(
            end.text,
            (end.x, end.y),
            xytext=(sign * AWAY, place - y),
            textcoords="offset points",
            ha="left" if sign > 0 else "right",
            va="center",
            fontsize="small",
            color=readable(end.color),
            path_effects=[_HALO],
            zorder=4,
        )
    return left_out


def spread(places: NDArray[np.float64], distance: float) -> NDArray[np.float64]:
    """Move sorted ``places``, (n,), at least ``distance`` apart, by the least squares of the moves.

    Neighbours that are too close become a block, which is as far up as down from where its members were.
    """
    steps = distance * np.arange(len(places))
    blocks: list[tuple[float, int]] = []  # mean of (place - step), and how many
    for value in places - steps:
        mean, count = float(value), 1
        while blocks and blocks[-1][0] > mean:
            before, number = blocks.pop()
            mean, count = (mean * count + before * number) / (count + number), count + number
        blocks.append((mean, count))
    return np.repeat([mean for mean, _ in blocks], [count for _, count in blocks]) + steps


def readable(color: Any) -> tuple[float, float, float]:
    """Darken ``color`` until text in it has a contrast of 4.5 on white (WCAG 2)."""
    shade = np.array(to_rgb(color))
    while 1.05 / (_luminance(shade) + 0.05) < 4.5:
        shade *= 0.95
    red, green, blue = shade.tolist()
    return red, green, blue


def _luminance(color: NDArray[np.float64]) -> float:
    linear = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def _groups(x: NDArray[np.float64], near: float) -> list[NDArray[np.int64]]:
    """Return the indices of ``x`` in groups of neighbours less than ``near`` apart, each in the order given."""
    order = np.argsort(x, kind="stable")
    breaks = np.flatnonzero(np.diff(x[order]) > near) + 1
    return [np.sort(group) for group in np.split(order, breaks)]


def _inside(axes: Axes, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points of data coordinates, (n, 2), as fractions of the panel."""
    return np.asarray(axes.transLimits.transform(axes.transScale.transform(points)))


def _size(axes: Axes) -> NDArray[np.float64]:
    """Return width and height of the panel in points, roughly: the layout is computed when the figure is drawn."""
    figure, spec = axes.get_figure(), axes.get_subplotspec()
    inches = figure.get_size_inches() if isinstance(figure, Figure) else np.array([3.3, 3.0])
    grid = spec.get_gridspec() if spec is not None else None
    return 72 * _PANEL * np.asarray(inches) / ((grid.ncols, grid.nrows) if grid else (1, 1))
