"""The searcher with a real Optuna journal: proposals and results."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from searched_spaces import GRID_POINTS, PLAIN, SAMPLERS, MakeSpace, as_tuple, default_values, folder, told

from st3sweep.runs.ledger import Ledger
from st3sweep.search.samplers import Sobol, seed_of
from st3sweep.search.searcher import Exhausted, Searcher
from st3sweep.search.study import JOURNAL


def test_random_points_are_those_of_optunas_sampler(make_space: MakeSpace, tmp_path: Path) -> None:
    """They are drawn without a trial of the study, so that a trial is one operation there."""
    searcher = Searcher(make_space("random"), folder(tmp_path))
    named = {"sparsity.method": "st3", "sparsity.target": 0.75}
    for index in range(12):
        for fixed in ({}, named):
            study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed_of(7, index)))
            study.enqueue_trial(searcher._run.parameters.to_study(fixed))
            assert searcher._random_point(index, fixed) == searcher._suggest(study.ask())
    before = (tmp_path / "run" / JOURNAL).read_text().count("\n")
    searcher.ask()
    assert (tmp_path / "run" / JOURNAL).read_text().count("\n") == before + 1


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_points_are_in_bounds_meet_the_constraints_and_make_trials(
    sampler: str, make_space: MakeSpace, tmp_path: Path
) -> None:
    space = make_space(sampler)
    for point in told(Searcher(space, folder(tmp_path)), 8):
        assert space.allows(point)
        assert ("sparsity.target" in point) == (point["sparsity.method"] == "st3"), "absent where it is not searched"
        assert 0.5 <= point.get("sparsity.target", 0.5) <= 0.99
        assert 0.01 <= point.get("optim.lr", 0.1) <= 0.3
        assert point["model.depth"] in (8, 14, 20)
        trial = space.trial_for(point)
        assert (trial.sparsity.method, trial.model.depth) == (point["sparsity.method"], point["model.depth"])  # type: ignore[union-attr]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_seed_asks_for_the_same_points(sampler: str, make_space: MakeSpace, tmp_path: Path) -> None:
    first, second = (told(Searcher(make_space(sampler), folder(tmp_path, name)), 8) for name in ("a", "b"))
    assert first == second
    if sampler != "grid":
        assert len({str(point) for point in first}) == 8
        assert told(Searcher(make_space(sampler, seed=8), folder(tmp_path, "c")), 8) != first


def test_tpe_learns(make_space: MakeSpace, tmp_path: Path) -> None:
    """After its random start it proposes other and better points than a random search."""
    space = make_space("tpe", searcher={"sampler": "tpe", "startup_trials": 4})
    random = make_space("random")
    points, others = told(Searcher(space, folder(tmp_path, "a")), 8), told(Searcher(random, folder(tmp_path, "b")), 8)
    assert points[:4] == others[:4]
    assert points[4:] != others[4:]


def test_points_that_violate_a_constraint_are_failed_trials(make_space: MakeSpace, tmp_path: Path) -> None:
    space = make_space("random", constraints=["optim.lr <= 0.05"])
    searcher = Searcher(space, folder(tmp_path))
    numbers = [searcher.ask()[0] for _ in range(4)]
    rejected = [trial for trial in searcher.study.trials if trial.number not in numbers]
    assert len(rejected) >= 3
    for trial in rejected:
        assert trial.state == TrialState.FAIL
        assert trial.user_attrs == {"status": "violates a constraint"}
        assert trial.params["optim.lr"] > 0.05


def test_the_grid_is_every_allowed_point_once(make_space: MakeSpace, tmp_path: Path) -> None:
    searcher = Searcher(make_space("grid"), folder(tmp_path))
    assert [as_tuple(point) for point in told(searcher, 8)] == GRID_POINTS
    with pytest.raises(Exhausted, match="every point"):
        searcher.ask()


def test_a_point_of_the_grid_that_failed_is_not_run_again(make_space: MakeSpace, tmp_path: Path) -> None:
    searcher = Searcher(make_space("grid"), folder(tmp_path))
    number, point = searcher.ask()
    searcher.tell(number, None, "Diverged: the training loss is nan in epoch 1")
    assert point not in told(searcher, 7)


def test_a_sobol_sequence_fills_every_range_evenly(make_space: MakeSpace, tmp_path: Path) -> None:
    """Of 64 points each 16th of a range holds four: a property of the sequence that random points do not have."""
    space, where = make_space("qmc", **PLAIN | {"searcher": {"sampler": "qmc"}}), folder(tmp_path)
    points = told(Searcher(space, where), 40) + told(Searcher(space, where), 24)
    for path, searched in space.config.search.items():
        bins = 3 if path == "model.depth" else 16
        edges = [searched.at(edge / bins) for edge in range(bins)]
        counts = [sum(point[path] >= edge for point in points) for edge in edges] + [0]
        in_bins = [more - fewer for more, fewer in pairwise(counts)]
        assert max(in_bins) - min(in_bins) <= (1 if bins == 3 else 0), path


def test_conditional_fields_have_a_dimension_of_the_sobol_sequence(make_space: MakeSpace, tmp_path: Path) -> None:
    space = make_space("qmc", constraints=[])
    points = told(Searcher(space, folder(tmp_path)), 64)
    sparse = [point["sparsity.target"] for point in points if point["sparsity.method"] == "st3"]
    assert len(sparse) == 32
    middle = space.config.search["sparsity.target"].at(0.5)
    assert 15 <= sum(target < middle for target in sparse) <= 17


def test_a_sobol_sequence_by_index() -> None:
    sobol, other = Sobol(3, seed=5), Sobol(3, seed=6)
    points = [sobol.at(index) for index in range(8)]
    assert [sobol.at(index) for index in (5, 2, 3, 7, 0)] == [points[index] for index in (5, 2, 3, 7, 0)]
    assert other.at(0) != points[0], "scrambled by its seed"


@pytest.mark.parametrize("sampler", ["random", "grid", "tpe"])
def test_asking_and_telling_do_not_scan_earlier_trials(
    sampler: str, make_space: MakeSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searcher = Searcher(make_space(sampler), folder(tmp_path))
    told(searcher, 1)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the cost of a trial grows with the number of trials")

    monkeypatch.setattr(searcher.study._storage, "get_all_trials", refuse)
    told(searcher, 7 if sampler == "grid" else 12)


@pytest.mark.long
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_point_of_a_finite_space_is_proposed_once(sampler: str, make_space: MakeSpace, tmp_path: Path) -> None:
    space = make_space("grid", searcher={"sampler": sampler})
    searcher = Searcher(space, folder(tmp_path))
    assert sorted(map(str, map(as_tuple, told(searcher, 8)))) == sorted(map(str, GRID_POINTS))
    with pytest.raises(Exhausted, match="every point"):
        searcher.ask()
    trials = searcher.study.trials  # a copy of all each time
    for trial in trials:
        if "duplicate_of" in trial.user_attrs:
            earlier = trials[trial.user_attrs["duplicate_of"]]
            assert (trial.params, trial.state, trial.values) == (earlier.params, earlier.state, earlier.values)
            assert "duplicate_of" not in earlier.user_attrs


@pytest.mark.parametrize(("status", "state"), [("failed", "FAIL"), ("stopped", "PRUNED"), (None, "FAIL")])
def test_a_tried_point_is_not_run_again_whatever_its_result(
    status: str | None, state: str, make_space: MakeSpace, tmp_path: Path
) -> None:
    """``None``: the trial is running."""
    space, where = make_space("grid", searcher={"sampler": "random"}), folder(tmp_path)
    searcher, ledger = Searcher(space, where), Ledger(where)
    number, point = searcher.ask()
    spec = space.trial_for(point)
    ledger.add_trial(number, point, spec.model_dump(mode="json"), spec.digest(), 1)
    if status is not None:
        ledger.add_done(number, status, {}, "it broke" if status == "failed" else None)
    searcher = Searcher(space, where)  # the next process
    searcher.reconcile(ledger)
    assert point not in told(searcher, 7)
    copies = [trial for trial in searcher.study.trials if trial.user_attrs.get("duplicate_of") == number]
    assert {trial.state.name for trial in copies} == {state}


def test_a_strict_constraint_is_met_by_points_drawn_at_random(make_space: MakeSpace, tmp_path: Path) -> None:
    """One point in a hundred meets it; the study holds few of the proposals that violate it."""
    space = make_space("random", **PLAIN | {"constraints": ["sparsity.target >= 0.98", "model.depth == 8"]})
    searcher = Searcher(space, folder(tmp_path))
    points = told(searcher, 4)
    assert len({point["optim.lr"] for point in points}) == 4
    assert all(space.allows(point) for point in points)
    assert len(searcher.study.trials) <= 4 * 21


def test_a_failed_trial_is_fail_with_its_error(make_space: MakeSpace, tmp_path: Path) -> None:
    searcher = Searcher(make_space("random"), folder(tmp_path))
    number, _ = searcher.ask()
    searcher.tell(number, None, "DataError: no such folder")
    trial = searcher.study.trials[number]
    assert (trial.state, trial.user_attrs["error"]) == (TrialState.FAIL, "DataError: no such folder")
    assert trial.values is None


def test_optuna_alone_reads_the_study(make_space: MakeSpace, tmp_path: Path) -> None:
    where = folder(tmp_path)
    points = told(Searcher(make_space("random"), where), 5)
    study = optuna.load_study(study_name="study", storage=JournalStorage(JournalFileBackend(str(where / JOURNAL))))
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert study.metric_names == ["val_top1", "gflops"]
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    assert [trial.values for trial in complete] == [default_values(point) for point in points]
    for trial, point in zip(complete, points, strict=True):
        assert trial.params["optim.lr"] == point["optim.lr"]
        assert ("-log(1-sparsity.target)" in trial.params) == ("sparsity.target" in point)
    assert study.best_trials
    found = {name: kind for trial in complete for name, kind in trial.distributions.items()}
    assert found == {
        "sparsity.method": CategoricalDistribution(["st3", "dense"]),
        "-log(1-sparsity.target)": FloatDistribution(-math.log1p(-0.5), -math.log1p(-0.99)),
        "optim.lr": FloatDistribution(0.01, 1.0, log=True),
        "model.depth": IntDistribution(8, 20, step=6),
    }
