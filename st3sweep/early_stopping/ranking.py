"""Rank a trial among those at its rung, from 1 (best), by one of three rankings.

``points`` (n, 2) are error in percent and log gflops, both minimised; ``ties`` (n,) are random numbers, of which the
lower wins between equal trials. The result does not depend on the order of the points.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from st3sweep.pareto import Goal

Floats = NDArray[np.float64]
GOALS: tuple[Goal, Goal] = ("min", "min")


def normalised(points: Floats, layers: NDArray[np.int64]) -> Floats:
    """Scale ``points`` so that the ideal (minimum of each axis) is 0 and the nadir (maximum of the front) is 1.

    On an axis where the front is a single value, the nadir is the maximum of all points.
    """
    ideal = points.min(axis=0)
    span = points[layers == 0].max(axis=0) - ideal
    span = np.where(span > 0, span, points.max(axis=0) - ideal)
    return np.asarray((points - ideal) / np.where(span > 0, span, 1.0))


def spread(points: Floats, ties: Floats) -> list[int]:
    """Sort the ``points`` of one layer so that they cover it early: both extremes, then the widest gaps; as indices.

    Farthest-point order: the lowest error comes first, then always the point farthest from all before. The second is
    thus the lowest cost, since in a layer error falls as cost rises. The distance is Euclidean, and rounded so that
    equal gaps compare equal whatever the axes' units.
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
    """Rank point ``index`` by how far its error is below the trend at its gflops."""
    error, cost = points.T
    return scalar_rank(index, (error - trend(error, cost)).round(9), ties)


def trend(error: Floats, cost: Floats) -> Floats:
    """Fit the usual error at each ``cost``, (n,): two straight lines through three medians.

    The points are divided into thirds by cost; the lines join the medians of error and cost of the first and second
    third, and of the second and last, and extend beyond them. So a few diverged trials do not move the trend, and it
    may bend, as accuracy does over cost. A rising line (costlier trials worse) comes from too few trials and is made
    level. Tukey's resistant line (1977) is the same with one slope of any sign. If a third is empty, as with fewer than
    three different costs, the trend is the median error.
    """
    cuts = np.quantile(cost, [1 / 3, 2 / 3], method="inverted_cdf")  # values of the points: no rounding
    thirds = np.searchsorted(cuts, cost, side="left")
    if len(set(thirds.tolist())) < 3:
        return np.full(len(cost), np.median(error))
    x, y = (np.array([np.median(axis[thirds == third]) for third in range(3)]) for axis in (cost, error))
    slopes = np.minimum(np.diff(y) / np.diff(x), 0)
    return np.asarray(y[1] + np.where(cost < x[1], slopes[0], slopes[1]) * (cost - x[1]))


def scalar_rank(index: int, values: Floats, ties: Floats) -> int:
    """Rank value ``index`` among ``values``; the lowest is the best."""
    value = values[index]
    return int(((values < value) | ((values == value) & (ties < ties[index]))).sum()) + 1
