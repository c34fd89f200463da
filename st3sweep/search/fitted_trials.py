"""Choose the trials that TPE fits, so that the cost of a proposal does not follow their number.

TPE sorts the trials into good and bad ones and fits a density to each: without a bound, its time grows with their
number. Beyond ``FITTED`` ended trials it fits points all along the front, the newest trials behind the front and a
fixed random share of the others. Further points of the front are left out: TPE takes a tenth for good, and would count
them among the bad ones.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from collections.abc import Sequence
from itertools import islice

import numpy

FITTED = 1000  # ended trials that TPE fits at most; running ones, no more than there are slots, come on top
FRONT = FITTED // 10  # of them on the front at most: as many as TPE takes for good ones, a tenth
NEWEST = FITTED // 2


class FittedTrials:
    """The ended trials of a study, by number, and which of them TPE fits.

    The choice follows from the set of ended trials, in whatever order they ended: a resumed run makes the same.
    Adding a trial takes O(front), choosing O(FITTED).
    """

    def __init__(self, objectives: int) -> None:
        self._ended: list[int] = []  # sorted
        self._shuffled: list[tuple[bytes, int]] = []  # sorted by a hash of the number: a prefix is a random share
        self._front = numpy.empty(0, int)  # numbers of the trials on the front
        self._costs = numpy.empty((0, objectives))  # theirs, all to be minimised

    def add(self, number: int, costs: Sequence[float] | None) -> None:
        """Add a trial that completed with ``costs``, all to be minimised, or was stopped early (None)."""
        insort(self._ended, number)
        insort(self._shuffled, (_hash(number), number))
        if costs is not None:
            self._add_to_front(number, numpy.asarray(costs))

    def discard(self, number: int) -> None:
        """Remove a trial that was stopped early, since it was promoted: another one records its end."""
        for numbers, entry in ((self._ended, number), (self._shuffled, (_hash(number), number))):
            at = bisect_left(numbers, entry)  # type: ignore[type-var]
            if numbers[at : at + 1] == [entry]:
                del numbers[at]

    def chosen(self) -> list[int]:
        """Return the numbers of the trials to fit, sorted: all, or ``FITTED`` (fewer if most are on the front)."""
        if len(self._ended) <= FITTED:
            return list(self._ended)
        front = set(self._front.tolist())
        good = self._spread_over_front()
        newest = islice((number for number in reversed(self._ended) if number not in front), NEWEST)
        chosen = {*good, *newest}
        others = (number for _, number in self._shuffled if number not in front and number not in chosen)
        return sorted([*chosen, *islice(others, FITTED - len(chosen))])

    def _add_to_front(self, number: int, costs: numpy.ndarray) -> None:
        same = (self._costs == costs).all(axis=1)
        if ((self._costs <= costs).all(axis=1) & ~same).any() or (self._front[same] < number).any():
            return  # dominated, or a copy: the first of several equal trials represents them
        kept = ~(costs <= self._costs).all(axis=1)
        self._front = numpy.append(self._front[kept], number)
        self._costs = numpy.vstack([self._costs[kept], costs])

    def _spread_over_front(self) -> list[int]:
        """Return at most ``FRONT`` trials, evenly spaced on the front by the first objective, both ends included."""
        in_order = self._front[numpy.lexsort(self._costs.T[::-1])]
        steps = numpy.linspace(0, len(in_order) - 1, min(FRONT, len(in_order)))
        return [int(number) for number in in_order[steps.round().astype(int)]]


def _hash(number: int) -> bytes:
    return hashlib.blake2b(str(number).encode(), digest_size=8).digest()
