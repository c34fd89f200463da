"""How good a trial is among those at its rung: ranks from 1, the best, in one of three orders.

``points`` are (n, 2) pairs of error in percent and log gflops, both to be low; ``ties`` are (n,) random numbers, of
which the lower goes first where two trials are equal. No rank depends on the order of the points.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from st3sweep.pareto import Goal, pareto_layers

Floats = NDArray[np.float64]
GOALS: tuple[Goal, Goal] = ("min", "min")


def pareto_rank(index: int, points: Floats, ties: Floats) -> int:
    """Rank of point ``index`` by non-dominated layer, then by ``spread`` within its layer."""
    layers = pareto_layers(points, GOALS)
    own = np.flatnonzero(layers == layers[index])
    place = spread(normalised(points, layers)[own], ties[own]).index(int(np.flatnonzero(own == index)[0]))
    return int((layers < layers[index]).sum()) + place + 1


def normalised(points: Floats, layers: NDArray[np.int64]) -> Floats:
    """``points`` with the ideal (the least on each axis) at 0 and the nadir (the most on the front) at 1.

    On an axis where the front is a single value, the nadir is the most of all points.
    """
    ideal = points.min(axis=0)
    span = points[layers == 0].max(axis=0) - ideal
    span = np.where(span > 0, span, points.max(axis=0) - ideal)
    return np.asarray((points - ideal) / np.where(span > 0, span, 1.0))


def spread(points: Floats, ties: Floats) -> list[int]:
    """Indices of the ``points`` of one layer in the order in which they cover it: both extremes, then the widest gaps.

    The least error goes first, and then ever the point that is farthest from all before; the second is the least cost,
    since in a layer one falls as the other rises. The distance is Euclidean, and rounded, so that equal gaps are equal
    whatever the axes' units.
    """
    by_tie = np.argsort(ties, kind="stable")  # so that argmax finds the lowest tie of those that are equal
    points = points[by_tie]
    distance, chosen = np.full(len(points), np.inf), []
    best = int(np.argmin(points[:, 0]))
    for _ in points:
        chosen.append(best)
        distance = np.minimum(distance, np.hypot(*(points - points[best]).T).round(9))
        distance[best] = -np.inf
        best = int(np.argmax(distance))
    return [int(index) for index in by_tie[chosen]]


def residual_rank(index: int, points: Floats, ties: Floats) -> int:
    """Rank of point ``index`` by how far its error is below the trend at its gflops."""
    error, cost = points.T
    return scalar_rank(index, (error - trend(error, cost)).round(9), ties)


def trend(error: Floats, cost: Floats) -> Floats:
    """(n,) error that is usual at each ``cost``: two straight lines through three medians.

    The points fall into thirds by cost; the lines join the medians of error and cost of the first and second, and of
    the second and last, and go on beyond them. So a few trials that diverged do not move the trend, and it may bend, as
    accuracy does over cost. A line that would rise, with costlier trials worse than cheaper ones, is level: few trials
    make such medians. Tukey's resistant line (1977) is the same with one slope of any sign. With fewer than three
    different costs it is the median error.
    """
    cuts = np.quantile(cost, [1 / 3, 2 / 3], method="inverted_cdf")  # values of the points: no rounding
    thirds = np.searchsorted(cuts, cost, side="left")
    if len(set(thirds.tolist())) < 3:
        return np.full(len(cost), np.median(error))
    x, y = (np.array([np.median(axis[thirds == third]) for third in range(3)]) for axis in (cost, error))
    slopes = np.minimum(np.diff(y) / np.diff(x), 0)
    return np.asarray(y[1] + np.where(cost < x[1], slopes[0], slopes[1]) * (cost - x[1]))


def scalar_rank(index: int, values: Floats, ties: Floats) -> int:
    """Rank of value ``index`` among ``values``, of which the least is the best."""
    value = values[index]
    return int(((values < value) | ((values == value) & (ties < ties[index]))).sum()) + 1
