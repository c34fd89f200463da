"""Compute Pareto fronts and hypervolume of a set of points, in numpy.

A point *dominates* another when it is no worse in every objective and better in at least one. The *front* is the
set of points that no other point dominates. The *hypervolume* of a set is the size of the region that its points
dominate, up to a reference point: it grows when the front moves forward anywhere.

Definitions that the callers rely on:

- identical points do not dominate one another, so all copies of a point on the front are on the front;
- a point with a NaN is never on the front and dominates no other;
- infinities are values like any other: -inf is the worst that a maximised objective can be.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Goal = Literal["max", "min"]

MANY = 10_000  # points, from which sorting all of them takes longer than leaving out what is clearly dominated


def pareto_mask(points: ArrayLike, goals: Sequence[Goal]) -> NDArray[np.bool_]:
    """Return which rows of ``points`` are on the Pareto front.

    Args:
        points: (n, m) values of n points in m objectives, in any units; n = 0 is allowed.
        goals: m words, "max" or "min", one for each column.

    Returns: (n,) bool, in the order of ``points``. O(n log n) for m = 2, O(n²) otherwise.

    Raises ValueError for another shape, another number of goals or an unknown goal.
    """
    costs = _costs(points, goals)
    mask: NDArray[np.bool_] = np.logical_not(np.isnan(costs).any(axis=1))
    front = _front_of_two if costs.shape[1] == 2 else _front_pairwise
    mask[mask] = front(costs[mask])
    return mask


def pareto_layers(points: ArrayLike, goals: Sequence[Goal]) -> NDArray[np.int64]:
    """Return the Pareto layer of each point: 0 on the front, 1 on the front without layer 0, and so on.

    Args:
        points: (n, 2) values, finite or not; n = 0 is allowed.
        goals: two words, "max" or "min".

    Returns: (n,) int, -1 for a point with a NaN. O(n log n).

    Raises ValueError where there are not two objectives.
    """
    costs = _costs(points, goals)
    if costs.shape[1] != 2:
        raise ValueError(f"layers are defined here for 2 objectives, but got {costs.shape[1]}")
    layers = np.full(len(costs), -1)
    known = np.flatnonzero(~np.isnan(costs).any(axis=1))
    order = known[np.lexsort((costs[known, 1], costs[known, 0]))]
    lowest: list[float] = []  # second cost in each layer so far; what comes later has no lower first cost
    above: tuple[float, float] | None = None
    for index, (x, y) in zip(order.tolist(), costs[order].tolist(), strict=True):
        if (x, y) != above:  # copies share a layer
            above, layer = (x, y), bisect_right(lowest, y)
            lowest[layer : layer + 1] = [y]
        layers[index] = layer
    return layers


def hypervolume(points: ArrayLike, goals: Sequence[Goal], reference: ArrayLike) -> float:
    """Return the area that ``points`` dominate up to ``reference``, in the product of the two objectives' units.

    Args:
        points: (n, 2) values; a point that is not better than the reference in both objectives adds nothing, nor
            does a point with a NaN. An infinitely good point makes the area infinite.
        goals: two words, "max" or "min".
        reference: (2,) finite values, in the order of ``goals``: the corner opposite to the ideal.

    Raises ValueError where there are not two objectives, or where the reference is not two finite numbers.
    """
    costs = _costs(points, goals)
    if costs.shape[1] != 2:
        raise ValueError(f"hypervolume is defined here for 2 objectives, but got {costs.shape[1]}")
    corner = np.asarray(reference, dtype=float)
    if corner.shape != (2,) or not np.isfinite(corner).all():
        raise ValueError(f"reference must be 2 finite numbers, but got {reference!r}")
    corner = corner * _signs(goals)
    better = costs[(costs < corner).all(axis=1)]
    # Each point of the front, from left to right, adds a strip as wide as the gap to the next one. np.unique sorts by
    # the first objective and drops copies, whose strips of width 0 would give 0 × inf for an infinite height.
    front = np.unique(better[_front_of_two(better)], axis=0)
    widths = np.append(front[1:, 0], corner[0]) - front[:, 0] if len(front) else np.empty(0)
    return float((widths * (corner[1] - front[:, 1])).sum())


def _costs(points: ArrayLike, goals: Sequence[Goal]) -> NDArray[np.float64]:
    """Return ``points`` as an (n, m) array in which less is better in every column."""
    signs = _signs(goals)
    values = np.asarray(points, dtype=float)
    if values.shape == (0,):  # an empty list has no number of columns
        values = values.reshape(0, len(signs))
    if values.ndim != 2:
        raise ValueError(f"points must have shape (n, m), but got {values.shape}")
    if values.shape[1] != len(signs):
        raise ValueError(f"points have {values.shape[1]} columns, but got {len(signs)} goals: {goals!r}")
    return values * signs


def _signs(goals: Sequence[Goal]) -> NDArray[np.float64]:
    """Return (m,) factors, 1 or -1, that turn each objective into one to minimise."""
    if isinstance(goals, str) or not goals:
        raise ValueError(f'goals must be a sequence of "max" or "min", but got {goals!r}')
    for goal in goals:
        if goal not in ("max", "min"):
            raise ValueError(f'a goal is "max" or "min", but got {goal!r}')
    return np.array([1.0 if goal == "min" else -1.0 for goal in goals])


def _front_of_two(costs: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which of (n, 2) costs without NaN are on the front, by one pass in order of the first cost."""
    if len(costs) > MANY:
        mask = ~_beaten_by_a_sample(costs)
        mask[mask] = _front_by_sorting(costs[mask])
        return mask
    return _front_by_sorting(costs)


def _beaten_by_a_sample(costs: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which of (n, 2) costs the front of every hundredth of them dominates: most of a cloud."""
    sample = costs[::100]
    front = np.unique(sample[_front_by_sorting(sample)], axis=0)  # sorted by the first cost
    before = np.searchsorted(front[:, 0], costs[:, 0], side="left") - 1  # the last one of less first cost
    beaten: NDArray[np.bool_] = (before >= 0) & (front[before, 1] <= costs[:, 1])
    return beaten


def _front_by_sorting(costs: NDArray[np.float64]) -> NDArray[np.bool_]:
    order = np.lexsort((costs[:, 1], costs[:, 0]))
    x, y = costs[order].T
    # A point is on the front if it is the lowest at its own x and strictly lower than all at smaller x.
    first = np.searchsorted(x, x, side="left")
    lowest = np.minimum.accumulate(y)
    keep = (y == y[first]) & ((first == 0) | (y < lowest[first - 1]))
    mask = np.empty(len(costs), dtype=bool)
    mask[order] = keep
    return mask


def _front_pairwise(costs: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which of (n, m) costs without NaN are on the front, comparing each point with all others."""
    dominated = [((costs <= point).all(axis=1) & (costs < point).any(axis=1)).any() for point in costs]
    return ~np.array(dominated, dtype=bool)
