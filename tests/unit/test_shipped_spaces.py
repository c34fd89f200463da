"""Shipped spaces: every point is a valid trial, and comparisons of methods include all methods."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from st3sweep.space.field_errors import ValidationError
from st3sweep.space.loading import load_space
from st3sweep.trial.sparsity import MethodConfig

SPACES = Path(__file__).parents[2] / "search_spaces"
METHODS = set(MethodConfig.registered)


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


@pytest.mark.parametrize("name", ["ablation_cifar10", "methods_proxy"])
def test_the_whole_grid_is_within_the_budget(name: str) -> None:
    space = load_space(SPACES / f"{name}.yaml")
    trials = [space.trial_for(point) for point in space.grid()]
    assert len({(trial.digest(), trial.seed) for trial in trials}) == len(trials) == space.config.budget.trials


@pytest.mark.parametrize("name", ["methods_cifar10", "methods_proxy"])
def test_all_methods_are_compared_alike(name: str) -> None:
    space, rng = load_space(SPACES / f"{name}.yaml"), random.Random(0)
    points = [space.draw(rng) for _ in range(400)]
    trials = [space.trial_for(point) for point in points if space.allows(point)]
    assert {trial.sparsity.method for trial in trials} == METHODS
    assert len({(trial.train, trial.optim, trial.model, trial.data) for trial in trials}) == 1
