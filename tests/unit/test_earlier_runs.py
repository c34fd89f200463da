"""Earlier runs, in real tables: which results are reused, and which of their points are tried first."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from st3sweep.commands.plan import plan_text
from st3sweep.commands.reading import read_space
from st3sweep.runs.tables import table_path, write_table
from st3sweep.space.space import Point, Space
from st3sweep.sweep.warm_start import EarlierRuns, front_points
from st3sweep.util.errors import SpecError

SPACE: dict[str, Any] = {
    "schema": "st3sweep/v1",
    "name": "study",
    "trial": {"model": {"arch": "cifar_resnet"}, "data": {"dataset": "digits"}, "sparsity": {"method": "st3"}},
    "search": {"sparsity.target": {"float": [0.5, 0.9]}, "model.depth": {"int": [8, 20], "step": 6}},
    "searcher": {"sampler": "random"},
    "budget": {"trials": 4},
}
# Three trials: the second is worse than the first in both objectives, the third failed.
POINTS: list[Point] = [{"sparsity.target": 0.6, "model.depth": 8}, {"sparsity.target": 0.5, "model.depth": 14}]
POINTS += [{"sparsity.target": 0.7, "model.depth": 20}]
VALUES: list[dict[str, Any]] = [
    {"status": "finished", "val_top1": 90.0, "gflops": 0.01, "test_top1": 88.5, "best_epoch": 12, "epochs": 14}
    | {"wall_seconds": 12.5},
    {"status": "finished", "val_top1": 80.0, "gflops": 0.02, "best_epoch": 13, "epochs": 14},
    {"status": "failed", "error": "it broke"},
]
MakeSpace = Callable[..., Space]


@pytest.fixture
def make_space(tmp_path: Path) -> MakeSpace:
    def make(**changes: Any) -> Space:
        (tmp_path / "space.yaml").write_text(yaml.safe_dump(SPACE | changes, sort_keys=False))
        return read_space(tmp_path / "space.yaml")

    return make


def write_run(folder: Path, space: Space, points: list[Point] = POINTS, values: list[dict[str, Any]] = VALUES) -> Path:
    """Write the tables of a run of ``space`` that tried ``points``."""
    folder.mkdir()
    rows = []
    for number, (point, value) in enumerate(zip(points, values, strict=True)):
        trial = space.trial_for(point)
        facts = {"trial": number, "digest": trial.digest(), "seed": trial.seed, "workers": 1}
        rows.append({**facts, "params": json.dumps(point), "spec": trial.model_dump_json(), **value})
    write_table(table_path(folder, "trials"), "trials", rows)
    layers = [{"trial": 0, "layer": "conv1", "position": 0, "density": 0.4, "dead_channels": 2}]
    layers += [{"trial": 1, "layer": "conv1", "position": 0, "density": 0.5}]
    write_table(table_path(folder, "layers"), "layers", layers)
    return folder


@pytest.fixture
def run(tmp_path: Path, make_space: MakeSpace) -> Path:
    return write_run(tmp_path / "earlier", make_space())


def result(space: Space, point: Point) -> dict[str, Any] | None:
    return EarlierRuns(space).result(space.trial_for(point))


def test_the_result_of_the_same_trial_is_reused(make_space: MakeSpace, run: Path) -> None:
    space = make_space(warm_start={"from": [str(run)]})
    found = result(space, POINTS[0])
    assert found == {
        **{name: value for name, value in VALUES[0].items() if name != "status"},
        "layers": [
            dict.fromkeys(("shape", "numel", "macs_dense", "macs", "threshold", "flip_rate", "mismatch"))
            | {"layer": "conv1", "position": 0, "density": 0.4, "dead_channels": 2}
        ],
        "reused_from": f"{run}, trial 0",
    }
    assert type(found["best_epoch"]) is int, "a table with failed trials has floats in this column"
    json.dumps(found)


@pytest.mark.parametrize(
    ("changes", "point"),
    [
        ({}, POINTS[2]),  # failed in the earlier run
        ({}, {**POINTS[0], "sparsity.target": 0.61}),
        ({"seed": 1}, POINTS[0]),
        ({"resources": {"workers": 2}}, POINTS[0]),  # batch normalisation sees other batches
        ({"trial": {**SPACE["trial"], "train": {"epochs": 21}}}, POINTS[0]),
        ({"objectives": [{"metric": "val_top1", "goal": "max"}, {"metric": "wall_seconds", "goal": "min"}]}, POINTS[0]),
        ({"objectives": [{"metric": "val_loss", "goal": "min"}]}, POINTS[0]),  # not in these tables
    ],
)
def test_another_trial_is_run(changes: dict[str, Any], point: Point, make_space: MakeSpace, run: Path) -> None:
    assert result(make_space(warm_start={"from": [str(run)]}, **changes), point) is None


def test_images_in_another_folder_are_other_images(make_space: MakeSpace, tmp_path: Path) -> None:
    def space(root: str, dataset: str = "image_parquet", **changes: Any) -> Space:
        return make_space(trial={**SPACE["trial"], "data": {"dataset": dataset, "root": root}}, **changes)

    for dataset, taken_over in (("image_parquet", False), ("cifar10", True)):
        run = write_run(tmp_path / dataset, space("/data/a", dataset))
        again, elsewhere = (space(root, dataset, warm_start={"from": [str(run)]}) for root in ("/data/a", "/data/b"))
        assert result(again, POINTS[0]) is not None
        assert (result(elsewhere, POINTS[0]) is not None) == taken_over


def test_the_front_is_tried_first_if_it_is_in_the_space(make_space: MakeSpace, run: Path, tmp_path: Path) -> None:
    more = write_run(tmp_path / "more", make_space(), POINTS[1:2], [{**VALUES[1], "val_top1": 70.0}])
    space = make_space(warm_start={"from": [str(run), str(more)]})
    assert EarlierRuns(space).hints == [(f"{run}, trial 0", POINTS[0]), (f"{more}, trial 0", POINTS[1])]
    narrow = {**SPACE["search"], "sparsity.target": {"float": [0.5, 0.55]}}
    space = make_space(search=narrow, warm_start={"from": [str(run), str(more)]})
    assert [point for _, point in EarlierRuns(space).hints] == [POINTS[1]]
    space = make_space(constraints=["model.depth > 8"], warm_start={"from": [str(run), str(more)]})
    assert [point for _, point in EarlierRuns(space).hints] == [POINTS[1]]


def test_a_field_fixed_in_the_earlier_run_and_searched_now_is_part_of_the_point(
    make_space: MakeSpace, run: Path
) -> None:
    search = {**SPACE["search"], "optim.lr": {"float": [0.01, 1]}, "sparsity.criterion": {"choice": ["l1", "sigma"]}}
    space = make_space(search=search, warm_start={"from": [str(run)]})
    ((_, point),) = EarlierRuns(space).hints
    assert point == {**POINTS[0], "optim.lr": 0.1, "sparsity.criterion": "l1"}
    assert result(space, point) is not None, "it is that very trial"


def test_replicates_are_not_on_a_front(make_space: MakeSpace) -> None:
    space = make_space()
    row = {"trial": 0, "spec": space.trial_for(POINTS[0]), "val_top1": 80.0, "gflops": 0.1, "replicate_of": None}
    lucky = {**row, "trial": 1, "val_top1": 81.0, "replicate_of": 0}
    assert [found["trial"] for found, _ in front_points(space, [row, lucky])] == [0]


@pytest.mark.parametrize("what", ["no folder", "no run", "nothing finished", "no table"])
def test_a_folder_without_a_run_is_rejected_at_its_line(what: str, make_space: MakeSpace, run: Path) -> None:
    folder = run.parent / "other"
    said = "trials.parquet: not found; is"
    if what == "no run":
        folder.mkdir()
    elif what == "nothing finished":
        write_run(folder, make_space(), POINTS[2:], VALUES[2:])
        said = "no trial has finished there"
    elif what == "no table":
        folder.mkdir()
        (folder / "trials.parquet").write_text("not a table")
        said = "not a readable Parquet file"
    with pytest.raises(SpecError) as error:
        make_space(warm_start={"from": [str(run), str(folder)]})
    (problem,) = error.value.problems
    assert problem.field == "warm_start.from[1]"
    assert str(folder) in problem.message
    assert said in problem.message
    assert (run.parent / "space.yaml").read_text().splitlines()[problem.line - 1] == f"  - {folder}"


def test_folders_are_relative_to_the_working_directory(
    make_space: MakeSpace, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parent)
    monkeypatch.setenv("RUNS", str(run.parent))
    for written in ("earlier", "$RUNS/earlier"):
        space = make_space(warm_start={"from": [written]})
        assert space.document.data["warm_start"]["from"] == [str(run)], "this is what a resumed run reads"
    with pytest.raises(SpecError, match=r"warm_start.from\[0\]: the environment variable NONE is not set"):
        make_space(warm_start={"from": ["$NONE/earlier"]})


def test_the_plan_names_the_first_points(make_space: MakeSpace, run: Path) -> None:
    space = make_space(warm_start={"from": [str(run)], "points": [{"model.depth": 20}]})
    said = "warm start  1 given and 1 from earlier fronts first; 2 results of earlier trials to reuse if proposed\n"
    assert said in plan_text(space, None)
