"""The trials that have reached a rung, kept sorted, so that ranking one more of them takes time O(log n) in most cases.

The last trial that was added is judged. It has a rank from 1 (best) among all by one of three rankings
(``ranking.py``), and may be safe whatever its rank. Points are error in percent and log gflops, both minimised; ties
are random numbers, of which the lower wins between equal trials. No answer depends on the order of arrival.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

import numpy as np

from st3sweep.early_stopping.ranking import Floats, residual_rank, spread

SAFE_PER_BIN = 2  # best trials of a bin, never stopped; a bin spans a factor of two in gflops

_ROUNDING = 1e-9  # rounding error of logarithms of gflops

Entry = tuple[float, float, float]  # error, log gflops, tie
_Member = tuple[float, float, int]  # error, log gflops, trial
_ERROR, _MINUS_COST = itemgetter(0), lambda member: -member[1]


@dataclass
class Layers:
    """The Pareto layers of points that are added one by one; layer 0 is the front.

    Each layer is sorted by error, so that its costs fall. A point belongs to the first layer that has none that
    dominates it; what it dominates there moves to the next layer, and so on.
    """

    layers: list[list[_Member]] = field(default_factory=list)

    @classmethod
    def of(cls, members: Sequence[_Member]) -> Layers:
        """Return the layers of points in their order of arrival, as if they had come one by one. O(n log n)."""
        layers: list[list[_Member]] = []
        cheapest: list[float] = []  # of each layer so far: it dominates if any of the layer does; rises with the layers
        before, place = None, 0
        for member in sorted(members, key=itemgetter(0, 1)):
            if member[:2] != before:  # copies do not dominate each other
                before, place = member[:2], bisect_right(cheapest, member[1])
            if place == len(layers):
                layers.append([])
                cheapest.append(member[1])
            layers[place].append(member)
            cheapest[place] = member[1]
        return cls(layers)

    def add(self, error: float, cost: float, trial: int) -> int:
        """Add a point; return the number of its layer. O(log² n), and what moves."""
        own = bisect_left(range(len(self.layers)), True, key=lambda index: not self._dominated(index, error, cost))
        moving = [(error, cost, trial)]
        for layer in self.layers[own:]:
            moving = _replaced(layer, moving)
            if not moving:
                return own
        self.layers.append(moving)
        return own

    def _dominated(self, layer: int, error: float, cost: float) -> bool:
        """Whether a point of the layer dominates this one: if any, then the cheapest of those without more error."""
        members = self.layers[layer]
        place = bisect_right(members, error, key=_ERROR) - 1
        return place >= 0 and members[place][1] <= cost and members[place][:2] != (error, cost)


def _replaced(layer: list[_Member], added: list[_Member]) -> list[_Member]:
    """Insert ``added``, sorted as a layer is, into a layer; remove and return, sorted, what they dominate there."""
    removed = []
    for one in added:
        start = bisect_left(layer, one[0], key=_ERROR)
        if start < len(layer) and layer[start][:2] == one[:2]:  # copies do not dominate each other
            start = bisect_right(layer, one[0], key=_ERROR)
        end = bisect_right(layer, -one[1], lo=start, key=_MINUS_COST)
        removed += layer[start:end]
        layer[start:end] = [one]
    return removed


@dataclass
class Rung:
    """The trials at a rung, ``entries`` by number. What it says of a trial is of the one that was added last."""

    entries: dict[int, Entry] = field(default_factory=dict)
    _layers: Layers = field(default_factory=Layers)
    _table: array[float] = field(default_factory=lambda: array("d"))  # the entries, one after the other
    _by_error: list[tuple[float, float]] = field(default_factory=list)  # error, tie
    _bins: dict[int, list[float]] = field(default_factory=dict)  # the lowest errors of each bin
    _cheapest: float = math.inf
    _last: int = -1
    _layer: int = 0  # of the last trial

    @classmethod
    def of(cls, entries: Mapping[int, Entry]) -> Rung:
        """Return the rung that adding trials one by one, in this order, would make; much faster."""
        made, table = cls(dict(entries)), np.array([*entries.values()]).reshape(-1, 3)
        members = [(error, cost, trial) for trial, (error, cost, _) in entries.items()]
        made._layers, made._table = Layers.of(members), array("d", table.tobytes())
        made._by_error = sorted((error, tie) for error, _, tie in entries.values())
        made._cheapest = min((cost for _, cost, _ in entries.values()), default=math.inf)
        for error, cost, _ in sorted(entries.values()):  # the lowest errors first: the rest leaves a full bin as it is
            best = made._bins.setdefault(made._bin_of(cost), [])
            if len(best) < SAFE_PER_BIN:
                best.append(error)
        if members:
            made._last, layers = members[-1][2], made._layers.layers
            made._layer = next(index for index, layer in enumerate(layers) if members[-1] in layer)
        return made

    def __len__(self) -> int:
        return len(self.entries)

    def add(self, trial: int, entry: Entry) -> None:
        """Add a trial that is not there yet."""
        error, cost, tie = entry
        self.entries[trial] = entry
        self._table.extend(entry)
        self._last, self._layer = trial, self._layers.add(error, cost, trial)
        insort(self._by_error, (error, tie))
        if cost < self._cheapest:  # seldom: bins count from the cheapest
            self._cheapest, self._bins = cost, {}
            for other_error, other_cost, _ in self.entries.values():
                self._fill_bin(other_error, other_cost)
        else:
            self._fill_bin(error, cost)

    def _fill_bin(self, error: float, cost: float) -> None:
        best = self._bins.setdefault(self._bin_of(cost), [])
        insort(best, error)
        del best[SAFE_PER_BIN:]

    def _bin_of(self, cost: float) -> int:
        return math.floor((cost - self._cheapest) / math.log(2) + _ROUNDING)

    def is_safe(self) -> bool:
        """Whether the trial is on the front, or among the best two of its bin, which begins at the cheapest trial."""
        error, cost, _ = self.entries[self._last]
        best = self._bins[self._bin_of(cost)]
        return self._layer == 0 or len(best) < SAFE_PER_BIN or error <= best[-1]

    def is_below(self, limit: float, ranking: str) -> bool:
        """Whether the trial's rank, by ``ranking``, is a number above ``limit``."""
        error, _, tie = self.entries[self._last]
        if ranking == "asha":
            return bisect_left(self._by_error, (error, tie)) + 1 > limit
        if ranking == "residual":
            return residual_rank(len(self) - 1, self._points(), np.frombuffer(self._table)[2::3]) > limit
        before = sum(map(len, self._layers.layers[: self._layer]))
        own = self._layers.layers[self._layer]
        if before + len(own) <= limit or before + 1 > limit:
            return before + 1 > limit
        return before + self._place(own) > limit

    def _points(self) -> Floats:
        return np.frombuffer(self._table).reshape(-1, 3)[:, :2]

    def _place(self, members: list[_Member]) -> int:
        """Return the trial's place in its layer, from 1, in the order that covers it early (``ranking.spread``)."""
        points, front = np.array([member[:2] for member in members]), self._layers.layers[0]
        ideal = np.array([self._by_error[0][0], self._cheapest])
        span = np.array([front[-1][0], front[0][1]]) - ideal
        if not span.all():  # the front is a single value on an axis
            span = np.where(span > 0, span, self._points().max(axis=0) - ideal)
        ties = np.array([self.entries[trial][2] for *_, trial in members])
        order = spread((points - ideal) / np.where(span > 0, span, 1.0), ties)
        return order.index([trial for *_, trial in members].index(self._last)) + 1
