"""Test that the points of a grid are counted right without listing them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from st3sweep.commands.plan import sample_points
from st3sweep.space import grid_size as module
from st3sweep.space.grid_size import GridSize, grid_size
from st3sweep.space.loading import load_space
from st3sweep.space.space import Space

FIELDS: dict[str, dict[str, Any]] = {
    "sparsity.method": {"choice": ["st3", "gmp", "str"]},
    "sparsity.target": {"choice": [0.5, 0.8, 0.9], "when": {"sparsity.method": ["st3", "gmp"]}},
    "sparsity.criterion": {"choice": ["l1", "sigma"], "when": {"sparsity.method": "st3"}},
    "sparsity.s_init": {"choice": [-3, -4], "when": {"sparsity.method": "str"}},
    "optim.lr": {"choice": [0.1, 0.2], "when": {"sparsity.criterion": "l1"}},
    "train.epochs": {"int": [4, 8], "step": 2},
    "train.batch_size": {"int": [16, 64], "step": 16},
    "seed": {"int": [0, 4]},
}
CONSTRAINTS = [
    "sparsity.target <= 0.8 or train.epochs > 4",
    "train.batch_size >= 32",
    "optim.momentum < train.epochs",
    "sparsity.target < 0.9",
]


def space_of(fields: dict[str, Any], constraints: list[str], **more: Any) -> Space:
    return load_space(
        {
            "schema": "st3sweep/v1",
            "name": "grid",
            "trial": {
                "model": {"arch": "cifar_resnet", "depth": 8, "width": 4},
                "data": {"dataset": "digits", "image_size": 8},
                **({} if "sparsity.method" in fields else {"sparsity": {"method": "st3", "target": 0.5}}),
            },
            "search": fields,
            "constraints": constraints,
            "searcher": {"sampler": "grid"},
            **more,
        }
    )


def spaces() -> Iterator[tuple[str, ...]]:
    """Every second subset of the fields that is complete: what a condition names is searched."""
    names = list(FIELDS)
    for length in (2, 4, 6, 8):
        for chosen in itertools.combinations(names, length):
            conditions = {other for name in chosen for other in FIELDS[name].get("when", {})}
            method = {"sparsity.target", "sparsity.s_init"} <= set(chosen) or "sparsity.method" not in chosen
            if conditions <= set(chosen) and method:
                yield chosen


@pytest.mark.parametrize("constraints", [[], CONSTRAINTS[:1], CONSTRAINTS[1:3], CONSTRAINTS], ids=len)
def test_the_count_is_that_of_the_list(constraints: list[str]) -> None:
    seen = 0
    for chosen in spaces():
        if "sparsity.target" in chosen and "sparsity.method" not in chosen:
            continue
        space = space_of({name: FIELDS[name] for name in chosen}, constraints)
        listed = len(list(space.grid()))
        assert grid_size(space) == GridSize(listed, True), chosen
        assert grid_size(space, at_most=3) == GridSize(min(listed, 3), True)
        assert space.expected_trials() == listed
        seen += 1
    assert seen >= 5


def test_a_count_that_would_take_too_long_is_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    space = space_of(FIELDS, CONSTRAINTS)
    listed, whole = len(list(space.grid())), len(list(space.all_points()))
    assert listed < whole
    monkeypatch.setattr(module, "ENUMERATED", 3)
    assert grid_size(space) == GridSize(whole, False)
    assert grid_size(space, at_most=whole - 1) == GridSize(whole - 1, False)


def test_a_huge_grid_is_neither_listed_nor_counted_one_by_one(tmp_path: Path) -> None:
    huge = {
        **{name: field for name, field in FIELDS.items() if name != "seed"},
        "optim.momentum": {"choice": [0.8, 0.85, 0.9, 0.95]},
        "seed": {"int": [0, 99_999_999]},
    }
    space = space_of(huge, CONSTRAINTS, budget={"trials": 50})
    small = space_of({**huge, "seed": {"int": [0, 1]}}, CONSTRAINTS)
    assert grid_size(space).points == len(list(small.grid())) // 2 * 100_000_000
    assert space.expected_trials() == 50
    points = sample_points(space)
    assert len(points) == 50
    assert all(map(space.allows, points))
    assert len({str(point) for point in points}) == 50
