"""Count the points of a grid without enumerating them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from st3sweep.trial.recipes import KINDS

if TYPE_CHECKING:
    from st3sweep.space.space import Space

ENUMERATED = 20_000  # combinations of the values that constraints look at


@dataclass(frozen=True)
class GridSize:
    """Number of points; an upper bound where not ``exact``."""

    points: int
    exact: bool


def grid_size(space: Space, at_most: int | None = None) -> GridSize:
    """Count the points of ``space`` that meet its constraints, up to ``at_most``.

    Fields that neither a constraint nor a condition looks at multiply the count. The combinations of all others are
    enumerated if they are at most ENUMERATED; beyond, the points are counted as if there were no constraints.
    """
    paths = space.order()
    looked_at = _looked_at(space, paths)
    everything = _count(space, paths, looked_at, {}, {})
    if not space.constraints:
        return _limited(GridSize(everything, True), at_most)
    if at_most is not None and at_most <= ENUMERATED:
        tried = itertools.islice(space.all_points(), ENUMERATED)
        if sum(1 for _ in itertools.islice(filter(space.allows, tried), at_most)) == at_most:
            return GridSize(at_most, True)
    kept = [path for path in paths if path in looked_at]
    free = [path for path in paths if path not in looked_at]
    if _count(space, kept, set(kept), {}, {}) > ENUMERATED:
        return _limited(GridSize(everything, False), at_most)
    total = 0
    for point in space.points_of(kept):
        if space.allows(point):
            total += _count(space, free, set(), point, {})
    return _limited(GridSize(total, True), at_most)


def _limited(size: GridSize, at_most: int | None) -> GridSize:
    return size if at_most is None or size.points <= at_most else GridSize(at_most, size.exact)


def _looked_at(space: Space, paths: Sequence[str]) -> set[str]:
    """Return the searched paths on whose values constraints or conditions may depend."""
    named = {other for path in paths for other in space.config.search[path].when or {}}
    named |= {path for constraint in space.constraints for path in constraint.paths}
    if space.constraints:  # defaults depend on the kinds, and times in epochs on their number
        named |= {path for path in paths if path.rpartition(".")[2] in KINDS} | {"train.epochs", "recipe"}
    return {
        path
        for path in paths
        if any(path == one or path.startswith(f"{one}.") or one.startswith(f"{path}.") for one in named)
    }


def _count(
    space: Space,
    paths: Sequence[str],
    looked_at: set[str],
    point: Mapping[str, Any],
    known: dict[tuple[int, tuple[tuple[str, Any], ...]], int],
) -> int:
    """Count the points of ``paths`` from ``point`` on, without constraints; tells only ``looked_at`` values apart."""
    if not paths:
        return 1
    key = (len(paths), tuple(sorted(point.items(), key=str)))
    if key not in known:
        head, rest = paths[0], paths[1:]
        if not space.active(head, point):
            known[key] = _count(space, rest, looked_at, point, known)
        elif head in looked_at:
            values = space.config.search[head].values()  # type: ignore[union-attr]
            known[key] = sum(_count(space, rest, looked_at, {**point, head: value}, known) for value in values)
        else:
            values = space.config.search[head].values()  # type: ignore[union-attr]
            known[key] = len(values) * _count(space, rest, looked_at, point, known)
    return known[key]
