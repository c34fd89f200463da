"""The searcher with a real Optuna journal: proposals, results, and recovery after a kill."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from st3sweep.runs.ledger import Ledger
from st3sweep.search.samplers import Sobol, seed_of
from st3sweep.search.searcher import Exhausted, Searcher
from st3sweep.search.study import JOURNAL
from st3sweep.space.loading import load_space
from st3sweep.space.space import Point, Space

MakeSpace = Callable[..., Space]
SAMPLERS = ["tpe", "nsga2", "random", "qmc", "grid"]
SPACE: dict[str, Any] = {
    "schema": "st3sweep/v1",
    "name": "study",
    "seed": 7,
    "trial": {"model": {"arch": "cifar_resnet"}, "data": {"dataset": "digits"}},
    "search": {
        "sparsity.method": {"choice": ["st3", "dense"]},
        "sparsity.target": {"float": [0.5, 0.99], "scale": "log1m", "when": {"sparsity.method": "st3"}},
        "optim.lr": {"float": [0.01, 1.0], "scale": "log"},
        "model.depth": {"int": [8, 20], "step": 6},
    },
    "constraints": ["optim.lr <= 0.3"],
    "budget": {"trials": 12},
}
GRID: dict[str, Any] = {
    **SPACE,
    "search": {
        "sparsity.method": {"choice": ["st3", "dense"]},
        "sparsity.target": {"choice": [0.5, 0.9], "when": {"sparsity.method": "st3"}},
        "model.depth": {"int": [8, 20], "step": 6},
    },
    "constraints": ["model.depth + 100 * sparsity.target <= 105"],
}
GRID_POINTS = [("st3", 0.5, 8), ("st3", 0.9, 8), ("st3", 0.5, 14), ("st3", 0.9, 14), ("st3", 0.5, 20)]
GRID_POINTS += [("dense", None, 8), ("dense", None, 14), ("dense", None, 20)]
PLAIN: dict[str, Any] = {  # no conditional fields, no constraints
    **SPACE,
    "trial": {**SPACE["trial"], "sparsity": {"method": "st3"}},
    "search": {path: range_ for path, range_ in SPACE["search"].items() if path != "sparsity.method"}
    | {"sparsity.target": {"float": [0.5, 0.99], "scale": "log1m"}},
    "constraints": [],
}


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


@pytest.fixture
def make_space(tmp_path: Path) -> MakeSpace:
    def make(sampler: str, **changes: Any) -> Space:
        fields = {**{"grid": GRID, "gp": PLAIN}.get(sampler, SPACE), "searcher": {"sampler": sampler}, **changes}
        path = tmp_path / "space.yaml"
        path.write_text(yaml.safe_dump(fields, sort_keys=False))
        return load_space(path)

    return make


def folder(tmp_path: Path, name: str = "run") -> Path:
    (tmp_path / name).mkdir(exist_ok=True)
    return tmp_path / name


def told(searcher: Searcher, count: int, values_of: Callable[[Point], list[float]] | None = None) -> list[Point]:
    """Ask for and tell the next ``count`` points; a trial's values depend on its point only."""
    points = []
    for _ in range(count):
        number, point = searcher.ask()
        searcher.tell(number, (values_of or default_values)(point))
        points.append(point)
    return points


def default_values(point: Point) -> list[float]:
    cost = 1 - point.get("sparsity.target", 0.0)
    return [50 + 10 * cost + point["model.depth"] / 10, cost * point["model.depth"]]


class Killed(Exception):
    """Raised where the process is killed."""


def run_on(space: Space, where: Path, budget: int, dies_after: str | None = None) -> dict[int, Point]:
    """Run one process of a run as the driver does; return its ledger's points when ``budget`` trials are done.

    The process dies after the third ``dies_after``, the name of an action.
    """
    actions: list[str] = []

    def did(action: str) -> None:
        actions.append(action)
        if actions.count(action) == 3 and action == dies_after:
            ledger.close()
            raise Killed

    ledger = Ledger(where)
    searcher = Searcher(space, where)
    searcher.reconcile(ledger)
    for trial in ledger.unfinished():
        ledger.add_done(
            trial.number, "finished", dict(zip(("val_top1", "gflops"), default_values(trial.params), strict=True))
        )
        searcher.tell(trial.number, default_values(trial.params))
    while len(ledger.trials) < budget:
        try:
            number, point = searcher.ask()
        except Exhausted:
            break
        did("ask")
        ledger.add_trial(number, point, {}, "", 1, **searcher.position())
        did("start")
        val_top1, gflops = default_values(point)
        ledger.add_done(number, "finished", {"val_top1": val_top1, "gflops": gflops})
        did("done")
        searcher.tell(number, [val_top1, gflops])
        did("tell")
    ledger.close()
    return {number: trial.params for number, trial in ledger.trials.items()}


def as_tuple(point: Point) -> tuple[Any, ...]:
    return point["sparsity.method"], point.get("sparsity.target"), point["model.depth"]


# -- asking -----------------------------------------------------------------------------------------------------


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


# -- no trial is run twice --------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_point_of_a_finite_space_is_proposed_once(sampler: str, make_space: MakeSpace, tmp_path: Path) -> None:
    space = make_space("grid", searcher={"sampler": sampler})
    searcher = Searcher(space, folder(tmp_path))
    assert sorted(map(str, map(as_tuple, told(searcher, 8)))) == sorted(map(str, GRID_POINTS))
    with pytest.raises(Exhausted, match="every point"):
        searcher.ask()
    for trial in searcher.study.trials:
        if "duplicate_of" in trial.user_attrs:
            earlier = searcher.study.trials[trial.user_attrs["duplicate_of"]]
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


# -- telling ----------------------------------------------------------------------------------------------------


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


# -- recovery after a kill --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["random", "qmc", "grid"])
@pytest.mark.parametrize("dies_after", ["ask", "start", "done", "tell"])
def test_a_killed_run_resumes_to_the_same_set_of_points(
    sampler: str, dies_after: str, make_space: MakeSpace, tmp_path: Path
) -> None:
    space = make_space(sampler)
    undisturbed = run_on(space, folder(tmp_path, "a"), 8)
    for _ in range(2):
        with pytest.raises(Killed):
            run_on(space, folder(tmp_path, "b"), 8, dies_after)
    resumed = run_on(space, folder(tmp_path, "b"), 8)
    assert len(undisturbed) == 8
    assert list(resumed.values()) == list(undisturbed.values())
    study = Searcher(space, folder(tmp_path, "b")).study
    assert [t.number for t in study.get_trials(states=(TrialState.COMPLETE,))] == list(resumed)
    assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))


def test_killed_between_choosing_a_point_of_the_grid_and_asking_for_it(make_space: MakeSpace, tmp_path: Path) -> None:
    space, where = make_space("grid"), folder(tmp_path)
    run_on(space, where, 3)
    Searcher(space, where).study.enqueue_trial({"sparsity.method": "st3", "sparsity.target": 0.9, "model.depth": 8})
    points = run_on(space, where, 8)
    assert sorted(map(str, map(as_tuple, points.values()))) == sorted(map(str, GRID_POINTS))


@pytest.mark.long
@pytest.mark.parametrize("sampler", ["random", "qmc", "grid"])
@pytest.mark.parametrize("cut", range(1, 400, 57))
def test_killed_while_writing_the_journal(sampler: str, cut: int, make_space: MakeSpace, tmp_path: Path) -> None:
    """The file ends ``cut`` bytes early, mostly within a line: every trial of the ledger can still be told."""
    space, where = make_space(sampler), folder(tmp_path)
    run_on(space, where, 3)
    searcher = Searcher(space, where)
    size = (where / JOURNAL).stat().st_size
    started = searcher.ask()
    journal = (where / JOURNAL).read_bytes()
    (where / JOURNAL).write_bytes(journal[: max(size, len(journal) - cut)])
    points = run_on(space, where, 7)
    assert started[1] in points.values()
    assert len(Searcher(space, where).study.get_trials(states=(TrialState.COMPLETE,))) == 7


def test_the_study_is_updated_from_the_ledger(make_space: MakeSpace, tmp_path: Path) -> None:
    space, where = make_space("random"), folder(tmp_path)
    searcher, ledger = Searcher(space, where), Ledger(where)
    finished, failed, not_finite, running, unknown = (searcher.ask()[0] for _ in range(5))
    for number in (finished, failed, not_finite, running):
        ledger.add_trial(number, {}, {}, "", 1)
    ledger.add_done(finished, "finished", {"val_top1": 80.0, "gflops": 0.1})
    ledger.add_done(failed, "failed", {}, "it broke")
    ledger.add_done(not_finite, "failed", {"val_top1": float("nan"), "gflops": 0.1}, "an objective is not a number")
    again = Searcher(space, where)
    for _ in range(2):  # a second time changes nothing
        again.reconcile(Ledger(where))
        trials = again.study.trials
        assert (trials[finished].state, trials[finished].values) == (TrialState.COMPLETE, [80.0, 0.1])
        assert [trials[n].state for n in (failed, not_finite, unknown)] == [TrialState.FAIL] * 3
        assert trials[running].state == TrialState.RUNNING
        assert [trials[n].user_attrs["error"] for n in (failed, unknown)] == [
            "it broke",
            "asked for, but never started",
        ]


def test_the_lock_of_a_killed_process_is_removed(make_space: MakeSpace, tmp_path: Path) -> None:
    where = folder(tmp_path)
    told(Searcher(make_space("random"), where), 1)
    (where / f"{JOURNAL}.lock").symlink_to(where / JOURNAL)
    started = time.monotonic()
    told(Searcher(make_space("random"), where), 1)
    assert time.monotonic() - started < 20, "Optuna waits for half a minute before it takes such a lock away"
    assert not (where / f"{JOURNAL}.lock").is_symlink()


# -- stopped, promoted, repeated -----------------------------------------------------------------------------------


RESULT = {"val_top1": 80.0, "gflops": 0.1}


def started(searcher: Searcher, ledger: Ledger) -> int:
    number, point = searcher.ask()
    ledger.add_trial(number, point, {"seed": 7}, "", 1)
    return number


def rounded(params: Point) -> Point:
    """Round a point: converting to -log(1 - x) and back may change its last digit."""
    return {name: round(value, 12) if isinstance(value, float) else value for name, value in params.items()}


def test_a_stopped_trial_is_pruned_without_values(make_space: MakeSpace, tmp_path: Path) -> None:
    searcher = Searcher(make_space("tpe"), folder(tmp_path))
    number, _ = searcher.ask()
    searcher.tell(number, None, status="stopped")
    trial = searcher.study.trials[number]
    assert (trial.state, trial.values, trial.user_attrs) == (TrialState.PRUNED, None, {})


@pytest.mark.parametrize("told_before_the_kill", [True, False])
def test_a_promoted_trial_gets_its_end_once(told_before_the_kill: bool, make_space: MakeSpace, tmp_path: Path) -> None:
    space, where = make_space("random"), folder(tmp_path)
    searcher, ledger = Searcher(space, where), Ledger(where)
    number = started(searcher, ledger)
    ledger.add_done(number, "stopped", {})
    searcher.tell(number, None, status="stopped")
    ledger.add_promoted(number)
    Searcher(space, where).reconcile(ledger)  # it runs: nothing to tell yet
    ledger.add_done(number, "finished", RESULT)
    if told_before_the_kill:
        searcher.tell(number, [80.0, 0.1])
    for _ in range(2):
        searcher = Searcher(space, where)
        searcher.reconcile(ledger)
    first, second = searcher.study.trials
    assert (first.state, second.state, second.values) == (TrialState.PRUNED, TrialState.COMPLETE, [80.0, 0.1])
    assert (second.params, second.user_attrs) == (first.params, {"continues": number})
    assert [trial.number for trial in searcher._run.proposals.trials] == [second.number], "samplers see its end alone"
    assert searcher.ask()[0] == 2


def test_a_replicate_is_a_trial_that_samplers_do_not_see(make_space: MakeSpace, tmp_path: Path) -> None:
    space, where = make_space("tpe", searcher={"sampler": "tpe", "startup_trials": 2}), folder(tmp_path, "a")
    searcher, other = Searcher(space, where), Searcher(space, folder(tmp_path, "b"))
    assert told(searcher, 4) == told(other, 4)
    repeated = searcher.repeat(2, seed=8)
    running = searcher.study.trials[repeated]
    assert running.state == TrialState.RUNNING
    assert running.params == searcher.study.trials[2].params
    assert running.user_attrs == {"replicate_of": 2, "seed": 8}
    searcher.tell(repeated, [99.0, 0.0])
    assert searcher.study.trials[repeated].values == [99.0, 0.0]
    again = Searcher(space, where)
    assert told(again, 3) == told(other, 3)


def test_reconcile_ends_trials_of_every_kind(make_space: MakeSpace, tmp_path: Path) -> None:
    space, where = make_space("random"), folder(tmp_path)
    searcher, ledger = Searcher(space, where), Ledger(where)
    stopped, finished = started(searcher, ledger), started(searcher, ledger)
    ledger.add_done(stopped, "stopped", {})
    ledger.add_done(finished, "finished", RESULT)
    repeated, unknown = searcher.repeat(finished, 8), searcher.repeat(finished, 9)
    ledger.add_trial(repeated, {}, {"seed": 8}, "", 1, replicate_of=finished)
    ledger.add_done(repeated, "finished", {"val_top1": 79.0, "gflops": 0.1})
    for _ in range(2):
        searcher = Searcher(space, where)
        searcher.reconcile(ledger)
        states = [searcher.study.trials[number].state.name for number in (stopped, finished, repeated, unknown)]
        assert states == ["PRUNED", "COMPLETE", "COMPLETE", "FAIL"]
        assert searcher.study.trials[repeated].values == [79.0, 0.1]
        assert len(searcher.study.trials) == 4


def test_what_a_power_cut_loses_is_restored_from_the_ledger(make_space: MakeSpace, tmp_path: Path) -> None:
    space, where = make_space("random"), folder(tmp_path)
    last = max(run_on(space, where, 5))
    ledger, searcher = Ledger(where), Searcher(space, where)
    ledger.add_trial(searcher.repeat(last, 8), ledger.trials[last].params, {"seed": 8}, "", 1, replicate_of=last)
    before = [searcher.study.trials[number] for number in ledger.trials]
    lines = (where / JOURNAL).read_bytes().splitlines(keepends=True)
    for kept in range(2, len(lines), 5):
        (where / JOURNAL).write_bytes(b"".join(lines[:kept]))
        searcher = Searcher(space, where)
        searcher.reconcile(ledger)
        after = [searcher.study.trials[number] for number in ledger.trials]
        assert [rounded(trial.params) for trial in after] == [rounded(trial.params) for trial in before]
        assert [trial.values for trial in after] == [trial.values for trial in before]
        assert after[-1].user_attrs == {"replicate_of": last, "seed": 8}
        assert searcher.ask()[0] > after[-1].number
