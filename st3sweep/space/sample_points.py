"""Draw points of a search space, to look at what its trials need."""

from __future__ import annotations

import random

from st3sweep.space.grid_size import grid_size
from st3sweep.space.space import Point, Space
from st3sweep.trial.settings import TrialSettings

SMALL_GRID = 2_000  # points that are listed; of a larger grid some are drawn
MEASURED = 4  # trials


def sample_points(space: Space, points: int = 50) -> list[Point]:
    """Return random points of the space that meet its constraints; at least one, since the space was checked."""
    if space.config.searcher.sampler == "grid" and grid_size(space).points <= SMALL_GRID:
        grid = list(space.grid())
        return random.Random(space.config.seed).sample(grid, min(points, len(grid)))
    rng = random.Random(space.config.seed)
    drawn = (space.draw(rng) for _ in range(10_000))
    return [point for point, _ in zip(filter(space.allows, drawn), range(points), strict=False)]


def largest_trials(space: Space) -> list[TrialSettings]:
    """Return a trial of each kind among random points: one of them should need most memory.

    A kind is a model, a method and a batch size; at most MEASURED, those with the largest batches.
    """
    kinds: dict[tuple[str, str, int], TrialSettings] = {}
    for trial in map(space.trial_for, sample_points(space)):
        kinds.setdefault((trial.model.label, trial.sparsity.method, trial.train.batch_size), trial)
    return sorted(kinds.values(), key=lambda trial: -trial.train.batch_size)[:MEASURED]
