"""Fronts and tables of a fabricated run with known front, units and outlier."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fabricated_run import FRONT, fabricate

from st3sweep.analysis import fronts, published_points, tables
from st3sweep.runs.tables import ResultsError, table_path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return fabricate(tmp_path / "sweep")


@pytest.fixture
def trials(run: Path) -> pd.DataFrame:
    return tables.load_trials(run)


def test_front_rows(trials: pd.DataFrame) -> None:
    rows = fronts.front(trials)
    assert rows["trial"].tolist() == FRONT
    assert rows["gflops"].is_monotonic_increasing


def test_an_unfinished_trial_is_not_on_the_front_and_dominates_none(trials: pd.DataFrame) -> None:
    ghosts = [
        trials.iloc[[0]].assign(**ghost, val_top1=100.0, gflops=1e-9)  # type: ignore[arg-type]
        for ghost in (
            {"trial": 9, "status": "running"},
            {"trial": 10, "status": "stopped"},
            {"trial": 11, "replicate_of": 0},
        )
    ]
    both = pd.concat([trials, *ghosts])  # index 0 twice: rows must be distinguished by position
    marked = fronts.mark_front(both)
    assert marked["on_front"].dtype == bool
    assert sorted(marked.loc[marked["on_front"].to_numpy(), "trial"]) == sorted(FRONT)
    assert "on_front" not in both
    assert fronts.front_hypervolume(both) == fronts.front_hypervolume(trials)


def test_front_of_other_objectives(trials: pd.DataFrame) -> None:
    by_test = fronts.front(trials, (("test_top1", "max"), ("gflops", "min")))
    assert by_test["trial"].tolist() == [3, 2, 1]
    with pytest.raises(ValueError, match=r"no column \['latency'\]"):
        fronts.front(trials, (("latency", "min"), ("gflops", "min")))


@pytest.mark.parametrize(
    ("asked", "picked"),
    [
        ({}, [0]),
        ({"max_gflops": 0.0008}, [1]),  # at the limit
        ({"max_gflops": 0.00079}, [2]),
        ({"min_accuracy": 96.0}, [2]),
        ({"min_accuracy": 96.5}, [1]),
        ({"min_accuracy": 91.0, "max_gflops": 0.0009}, [3]),
        ({"max_gflops": 0.00005}, []),
        ({"min_accuracy": 99.5}, []),
        ({"min_accuracy": 99.0, "max_gflops": 0.001}, []),
    ],
)
def test_pick(trials: pd.DataFrame, asked: dict[str, float], picked: list[int]) -> None:
    assert fronts.pick(trials, **asked)["trial"].tolist() == picked


def test_hypervolume_of_the_front(trials: pd.DataFrame) -> None:
    # Strips between the costs of the front (in 1e-4 gflops: 1, 4, 8, 16, up to the dense 32) times their accuracy.
    area = (3 * 92 + 4 * 96 + 8 * 98 + 16 * 99) * 1e-4
    assert fronts.front_hypervolume(trials) == pytest.approx(area)
    assert fronts.front_hypervolume(trials, (90.0, 0.0004)) == pytest.approx(3e-4 * 2)
    assert fronts.front_hypervolume(trials[trials["status"] == "failed"]) == 0.0


def test_one_reference_for_one_model(tmp_path: Path, run: Path) -> None:
    mixed = tables.load_trials(run, fabricate(tmp_path / "other", "resnet20", "cifar10", 0.041))
    with pytest.raises(ValueError, match=r"0\.0032.*0\.041"):
        fronts.front_hypervolume(mixed)


def test_load_tables_of_runs(tmp_path: Path, run: Path) -> None:
    other = fabricate(tmp_path / "other")
    both = tables.load_trials(run, other)
    assert both.columns[0] == "run"
    assert both["run"].tolist() == ["sweep"] * 7 + ["other"] * 7
    assert both.index.is_unique
    assert (len(tables.load_epochs(run, other)), len(tables.load_layers(run))) == (48, 18)
    with pytest.raises(ValueError, match="got none"):
        tables.load_trials()


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path: Path, run: Path) -> None:
    first, second, third = (fabricate(tmp_path / place / "study") for place in ("a/x", "b/x", "c"))
    both = tables.load_trials(first, second, third, run)
    parent = tmp_path.name  # three names of each path are needed
    assert both["run"].unique().tolist() == [
        "a/x/study",
        "b/x/study",
        f"{parent}/c/study",
        f"{tmp_path.parent.name}/{parent}/sweep",
    ]
    assert len(tables.load_trials(run, run)) == 7, "one run twice is one"
    assert tables.load_trials(run, run.parent / "." / run.name)["run"].unique().tolist() == ["sweep"]


def test_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = fabricate(tmp_path / "runs" / "b"), fabricate(tmp_path / "runs" / "a")
    os.utime(table_path(old, "trials"), (1, 1))
    (tmp_path / "runs" / "no_tables").mkdir()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "er")
    monkeypatch.delenv("ST3_RUN", raising=False)
    assert tables.run_folder() == new
    monkeypatch.setenv("ST3_RUN", "runs/b")
    assert tables.run_folder() == old
    monkeypatch.setenv("ST3_RUN", str(tmp_path / "gone"))
    with pytest.raises(ResultsError, match="gone"):
        tables.run_folder()
    monkeypatch.delenv("ST3_RUN")
    with pytest.raises(ResultsError, match="no run in nowhere/"):
        tables.run_folder("nowhere")


def test_published_units() -> None:
    points = tables.published("resnet50", "imagenet")
    assert list(points.columns) == published_points.PUBLISHED_COLUMNS
    row = points[(points["method"] == "ST-3") & (points["sparsity"] == 0.8)]
    assert row[["test_top1", "gflops"]].values.tolist() == [[76.95, 1.215]]
    assert points.loc[points["method"] == "dense", ["sparsity", "gflops"]].values.tolist() == [[0.0, 4.089]]
    everything = tables.published()
    assert set(everything["model"]) == {"resnet50", "mobilenet_v1"}
    assert everything["sparsity"].between(0, 1, inclusive="left").all()
    assert everything["remark"].str.partition(":")[0].value_counts().drop("").to_dict() == {
        "suspect": 3,  # their cost does not match the sparsity of their layers
        "sources differ": 2,
    }
    assert tables.published("resnet50", "cifar10").empty


def test_front_table(trials: pd.DataFrame) -> None:
    lines = tables.front_table(trials).splitlines()
    assert " ".join(lines[0].split()) == "trial method sparsity % val top-1 % test top-1 % MFLOPs fewer than dense"
    assert [line.split() for line in lines[1:]] == [
        ["3", "ST-3", "97.9", "92.00", "91.00", "0.100", "32.0×"],
        ["2", "ST-3σ", "89.9", "96.00", "95.50", "0.400", "8.0×"],
        ["1", "ST-3σ", "79.9", "98.00", "98.50", "0.800", "4.0×"],
        ["0", "ST-3", "49.9", "99.00", "98.00", "1.600", "2.0×"],
    ]
    # Numbers end where their header ends, so the text is a table in any fixed-width font.
    assert len({len(line) for line in lines}) == 1
    for name in ("sparsity %", "val top-1 %", "test top-1 %", "MFLOPs"):
        end = lines[0].index(name) + len(name)
        assert {line[end] for line in lines} == {" "}
        assert all(line[end - 1].isdigit() for line in lines[1:])


def test_front_table_with_other_units_several_runs_and_no_trials(
    tmp_path: Path, run: Path, trials: pd.DataFrame
) -> None:
    big = tables.load_trials(fabricate(tmp_path / "big", "resnet50", "imagenet", 4.089))
    assert "GFLOPs" in tables.front_table(big).splitlines()[0]
    assert "0.128" in tables.front_table(big).splitlines()[1]
    untested = tables.front_table(trials.assign(test_top1=np.nan))
    assert untested.splitlines()[1].split()[4] == "-"
    assert tables.front_table(tables.load_trials(run, tmp_path / "big")).startswith("run ")
    assert tables.front_table(trials[trials["status"] == "failed"]) == "no trial finished"
