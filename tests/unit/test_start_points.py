"""Points that a sweep tries first: which are valid, which are rejected, and that they are proposed first."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from st3sweep.runs.ledger import Ledger
from st3sweep.search.searcher import Searcher
from st3sweep.space.first_points import NotInSpace, as_point, first_points
from st3sweep.space.loading import load_space
from st3sweep.space.space import Point, Space
from st3sweep.util.errors import SpecError

SPACE = """\
schema: st3sweep/v1
name: study
trial:
  model: {arch: cifar_resnet}
  data: {dataset: digits}
  train: {epochs: 20}
search:
  sparsity.method: {choice: [st3, dense]}
  sparsity.target: {float: [0.5, 0.99], scale: log1m, when: {sparsity.method: st3}}
  optim.lr: {float: [0.01, 1.0], scale: log}
  model.depth: {int: [8, 20], step: 6}
  sparsity.ramp.end: {float: [0.3, 0.45], when: {sparsity.method: st3}}
constraints: ["optim.lr <= 0.3", "sparsity.target + optim.lr <= 1"]
searcher: {sampler: SAMPLER}
budget: {trials: 12}
"""
Load = Callable[..., Space]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(*points: Any, sampler: str = "random") -> Space:
        warm_start = yaml.safe_dump({"warm_start": {"points": list(points)}}, sort_keys=False) if points else ""
        (tmp_path / "space.yaml").write_text(SPACE.replace("SAMPLER", sampler) + warm_start)
        return load_space(tmp_path / "space.yaml")

    return load


ST3: Point = {"sparsity.method": "st3", "sparsity.target": 0.8, "optim.lr": 0.1, "model.depth": 14}


def test_points_are_named_and_have_the_types_of_their_ranges(load: Load) -> None:
    points = first_points(load({"model.depth": 8.0, "optim.lr": 0.1}, ST3 | {"sparsity.ramp.end": 0.4}))
    assert points == [
        ("points[0]", {"optim.lr": 0.1, "model.depth": 8}),
        ("points[1]", ST3 | {"sparsity.ramp.end": 0.4}),
    ]
    assert type(points[0][1]["model.depth"]) is int


def test_a_recipe_sets_its_values_that_are_in_range(load: Load) -> None:
    """The small recipe: lr 0.1, method st3 and a ramp that ends at 0.5, outside this range."""
    points = first_points(load({"recipe": "paper"}, {"recipe": "authors", "optim.lr": 0.2, "sparsity.target": 0.6}))
    assert points[0][1] == {"sparsity.method": "st3", "optim.lr": 0.1}
    assert points[1][1] == {"sparsity.method": "st3", "optim.lr": 0.2, "sparsity.target": 0.6}


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ({"optim.lr": 2}, "[1].optim.lr: is 2, searched from 0.01 to 1"),
        ({"optim.lr": True}, "[1].optim.lr: is true, searched from 0.01 to 1"),
        ({"optim.lr": "high"}, "[1].optim.lr: is 'high', searched from 0.01 to 1"),
        ({"model.depth": 9}, "[1].model.depth: is 9, searched from 8 to 20, whole in steps of 6"),
        ({"sparsity.method": "st"}, "[1].sparsity.method: is 'st', its choices: st3, dense; did you mean st3?"),
        ({"optim.lrs": 0.1}, "[1].optim.lrs: is not searched; did you mean optim.lr?"),
        ({"train.epochs": 10}, "[1].train.epochs: is not searched; it is fixed under trial"),
        (
            {"sparsity.target": 0.8},
            "[1].sparsity.target: needs sparsity.method in the same point: it decides whether this field is searched",
        ),
        (
            {"sparsity.method": "dense", "sparsity.target": 0.8},
            "[1].sparsity.target: is not searched, at sparsity.method='dense'",
        ),
        ({"optim.lr": 0.5}, "[1]: violates 'optim.lr <= 0.3'"),
        ({**ST3, "sparsity.target": 0.95}, "[1]: violates 'sparsity.target + optim.lr <= 1'"),
        ({"recipe": "papers"}, "[1].recipe: is 'papers', allowed: paper, authors; did you mean paper?"),
        ({}, "[1]: sets no field"),
        ({"model.depth": 8}, "[1]: is the same as points[0]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_point_is_named(point: Point, said: str, load: Load, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as error:
        load({"model.depth": 8}, point)
    (problem,) = error.value.problems
    assert f"{problem.field}: {problem.message}" == f"warm_start.points{said}"
    lines = (tmp_path / "space.yaml").read_text().splitlines()
    field = problem.field.removeprefix("warm_start.points[1]").strip(".")
    assert lines[problem.line - 1].lstrip(" -").startswith(field or next(iter(point), "{}"))
    assert problem.line > lines.index("  - model.depth: 8") + 1, "not a line of the point before"


def test_points_are_rejected_with_a_grid(load: Load, tmp_path: Path) -> None:
    text = SPACE.replace("SAMPLER", "grid").replace("float: [0.5, 0.99], scale: log1m", "choice: [0.5]")
    text = text.replace("float: [0.01, 1.0], scale: log", "choice: [0.1]").replace(
        "float: [0.3, 0.45]", "choice: [0.4]"
    )
    (tmp_path / "space.yaml").write_text(f"{text}warm_start:\n  points: [{{model.depth: 8}}]\n")
    with pytest.raises(SpecError, match=r"space.yaml:17:3: warm_start.points: has no effect with sampler grid"):
        load_space(tmp_path / "space.yaml")


@pytest.mark.long
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(seed=st.integers(0, 2**20), left_out=st.sets(st.sampled_from(sorted({"optim.lr", "model.depth"}))))
def test_every_point_of_the_space_is_valid(seed: int, left_out: set[str], load: Load) -> None:
    space = load()
    point = {path: value for path, value in space.draw(random.Random(seed)).items() if path not in left_out}
    assert as_point(space, point) == point
    with pytest.raises(NotInSpace):
        as_point(space, {**point, "train.batch_size": 64})


# -- the searcher with these points ---------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2", "qmc"])
def test_they_are_proposed_first_and_completed(sampler: str, load: Load, tmp_path: Path) -> None:
    space = load({"model.depth": 8}, ST3, {"sparsity.method": "dense", "optim.lr": 0.02}, sampler=sampler)
    searcher = Searcher(space, tmp_path, first_points(space))
    asked = [searcher.ask() for _ in range(4)]
    assert asked[0][1]["model.depth"] == 8
    assert set(asked[0][1]) >= {"sparsity.method", "optim.lr", "model.depth"}
    assert asked[1][1].items() >= ST3.items()
    assert asked[2][1] == {"sparsity.method": "dense", "optim.lr": 0.02, "model.depth": asked[2][1]["model.depth"]}
    attributes = [searcher.study.trials[number].user_attrs.get("warm_start") for number, _ in asked]
    assert attributes == ["points[0]", "points[1]", "points[2]", None]
    params = searcher.study.trials[asked[1][0]].params
    assert params["optim.lr"] == 0.1
    assert params["-log(1-sparsity.target)"] == pytest.approx(1.6094379)  # log 5


def test_a_resumed_run_proposes_the_remaining_ones(load: Load, tmp_path: Path) -> None:
    space = load(ST3, {"sparsity.method": "dense", "optim.lr": 0.02}, {"model.depth": 20})
    ledger, searcher = Ledger(tmp_path), Searcher(space, tmp_path, first_points(space))
    number, point = searcher.ask()
    ledger.add_trial(number, point, {}, "", 1)
    never_started = searcher.ask()[1]
    searcher = Searcher(space, tmp_path, first_points(space))
    searcher.reconcile(ledger)
    assert searcher.ask()[1] == never_started
    assert searcher.ask()[1]["model.depth"] == 20
    assert [trial.user_attrs.get("warm_start") for trial in searcher.study.trials][-1] == "points[2]"
    number, _ = searcher.ask()
    assert "warm_start" not in searcher.study.trials[number].user_attrs
