"""The spaces that are shipped: every point is a trial."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from st3sweep.loading import load_space
from st3sweep.validation import ValidationError

SPACES = Path(__file__).parents[2] / "search_spaces"


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_point_is_a_trial(path: Path) -> None:
    space, rng = load_space(path), random.Random(0)
    for _ in range(100):
        point = space.draw(rng)
        if space.allows(point):
            try:
                space.trial_for(point)
            except ValidationError as error:
                pytest.fail(f"{point}: {error}")
