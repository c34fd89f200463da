"""The study agrees with the ledger after a kill, and with trials stopped, promoted or repeated."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from optuna.trial import TrialState
from searched_spaces import GRID_POINTS, MakeSpace, as_tuple, default_values, folder, told

from st3sweep.runs.ledger import Ledger
from st3sweep.search.searcher import Exhausted, Searcher
from st3sweep.search.study import JOURNAL
from st3sweep.space.space import Point, Space


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
