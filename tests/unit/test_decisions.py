"""Test the decisions of a sweep without Ray: the test acts as the slots."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from driven_sweep import SPACE, Run, epoch, finish, result, statuses, top1, train

from st3sweep.runs.folder import trial_folder
from st3sweep.runs.ledger import Ledger
from st3sweep.runs.tables import read_table
from st3sweep.space.loading import load_space
from st3sweep.sweep.state import MAX_LOSSES, Outcome
from st3sweep.sweep.status import read_status
from st3sweep.util.errors import UserError


def test_a_killed_program_resumes_and_chooses_the_same_trials(run_of: Callable[[str], Run], tmp_path: Path) -> None:
    run = run_of("budget: {trials: 6}")
    first = run.program()
    assert finish(first, at_most=2) == [0, 1]
    open_trial = first.next_trial()
    assert open_trial is not None
    first.record(2, epoch(open_trial, 1))  # and now it is killed: nothing is closed

    second = run.program()
    again = second.next_trial()
    assert again is not None
    assert (again.number, sorted(again.epochs)) == (2, [1]), "the one in progress comes first"
    train(second, again)
    assert finish(second) == [3, 4, 5]
    assert second.is_complete()
    assert second.outcome().end == "complete"
    second.close()

    (tmp_path / "undisturbed").mkdir()
    undisturbed = Run(tmp_path / "undisturbed", "budget: {trials: 6}").program()
    finish(undisturbed)
    assert [t.spec for t in second.ledger.trials.values()] == [t.spec for t in undisturbed.ledger.trials.values()]
    table = read_table(run.folder, "trials")
    assert table["status"].tolist() == ["finished"] * 6
    assert len(read_table(run.folder, "epochs")) == 24


def test_a_kill_before_an_invalid_point_is_recorded_as_failed_is_repaired(run_of: Callable[[str], Run]) -> None:
    run = run_of("budget: {trials: 3}")
    first = run.program()
    number, point = first.searcher.ask()
    first.ledger.add_trial(number, point, {"sparsity": {"method": "none"}}, "", 0)  # and now it is killed

    second = run.program()
    assert finish(second) == [1, 2]
    assert statuses(second) == ["failed", "finished", "finished"]
    assert second.is_complete()


def test_an_early_stopped_trial_is_kept_and_can_be_promoted(run_of: Callable[[str], Run]) -> None:
    run = run_of(
        "budget: {trials: 12}\nscheduler: {name: ramp_pareto, rungs: [0.5], min_trials: 4, reduction_factor: 4}"
    )
    first = run.program()
    for index in range(12):
        trial = first.next_trial()
        assert trial is not None
        # Each is worse than the ones before it at every cost: only the first ones are on a front.
        first.record(trial.number, epoch(trial, 1, val_top1=90.0 - index, gflops_final=1.0 + index))
        if first.should_stop(trial.number):
            folder = trial_folder(run.folder, trial.number)
            folder.mkdir(parents=True)
            (folder / "last.ckpt").write_bytes(b"the state after its epoch")
            first.record(trial.number, {"status": "stopped"})
        else:
            first.record(trial.number, result(trial))
    stopped = [trial.number for trial in first.ledger.trials.values() if trial.status == "stopped"]
    assert stopped
    assert first.is_complete()
    assert {first.ledger.trials[number].result["rung"] for number in stopped} == {0}
    with pytest.raises(UserError, match=r"--promote 0: only a trial .* early can be promoted; it is finished"):
        first.promote([0])
    with pytest.raises(UserError, match=r"--promote 99: .* there is no such trial"):
        first.promote([99])

    second = run.program()
    second.promote(stopped[:1] * 2)  # named twice: no two slots have it
    assert not second.is_complete()
    assert second.slots_needed() == 1
    assert finish(second) == stopped[:1], "a promoted trial trains to the end"
    trial = second.ledger.trials[stopped[0]]
    assert (trial.status, sorted(trial.epochs)) == ("finished", [1, 2, 3, 4])
    assert run.program().is_complete()


def test_a_decision_to_stop_survives_a_kill(run_of: Callable[[str], Run]) -> None:
    run = run_of("budget: {trials: 8}\nscheduler: {name: asha, rungs: [0.25], min_trials: 2}")
    first = run.program()
    trials = [first.next_trial() for _ in range(4)]
    for rank, trial in enumerate(trials):
        assert trial is not None
        first.record(trial.number, epoch(trial, 1, val_top1=90.0 - rank))
    assert first.to_stop
    assert run.program().to_stop == first.to_stop


def test_a_pause_requeues_trials_and_a_drain_trains_them_to_the_end(run_of: Callable[[str], Run]) -> None:
    run = run_of("budget: {trials: 5}")
    first = run.program()
    trial = first.next_trial()
    assert trial is not None
    first.pause("SIGINT")
    train(first, trial)
    assert (trial.status, sorted(trial.epochs)) == ("running", [1])
    assert first.next_trial() is None
    assert (first.outcome().end, first.outcome().why) == ("interrupted", "SIGINT")

    second = run.program()
    trial = second.next_trial()
    assert trial is not None
    second.drain("asked to drain")
    train(second, trial)
    assert trial.status == "finished"
    assert second.next_trial() is None
    assert second.outcome().end == "interrupted"
    assert finish(run.program()) == [1, 2, 3, 4]


def test_a_lost_slot_requeues_its_trial_and_too_many_fail_it(run_of: Callable[[str], Run]) -> None:
    sweep = run_of("budget: {trials: 2}").program()
    for loss in range(MAX_LOSSES):
        trial = sweep.next_trial()
        assert trial is not None
        assert trial.number == 0, "the requeued trial comes first"
        sweep.record(0, epoch(trial, loss + 1))
        sweep.lost(0, "; see /logs/worker.err on node-7" if loss == 0 else "")  # the later ones had no worker
    assert sweep.ledger.trials[0].status == "failed"
    assert sweep.ledger.trials[0].error == f"its slot was lost {MAX_LOSSES} times; see /logs/worker.err on node-7"
    sweep.lost(0, "; see late")
    assert finish(sweep) == [1]
    assert statuses(sweep) == ["failed", "finished"]


def test_the_end_of_a_sweep_without_slots_names_the_last_output(run_of: Callable[[str], Run]) -> None:
    run = run_of("budget: {trials: 3}")
    (run.folder / "resolved.yaml").write_text(yaml.safe_dump(run.space.document.data))
    why = "every slot was lost, 6 times each: MemoryError"

    def ended(*losses: str) -> str:
        sweep = run.program()
        for see in losses:
            trial = sweep.next_trial()
            assert trial is not None
            sweep.lost(trial.number, see)
        sweep.every_slot_lost(6, "MemoryError")
        sweep.close()
        assert sweep.outcome() == Outcome("interrupted", sweep.why)
        status = read_status(run.folder)
        assert status.ledger.why == status.as_dict()["why"] == sweep.why
        assert status.lines("run")[0] == f"run: not running ({sweep.why})"
        return sweep.why

    assert ended() == why, "no trial had a worker"
    named = f"{why}; trial 0 was the last to lose one; see /logs/b.err"
    assert ended("; see /logs/a.err", "; see /logs/b.err") == named
    assert ended("; see /logs/b.err", "") == named, "the second worker died before it said where it writes"
    sweep = run.program()
    held = [sweep.next_trial() for _ in range(2)]
    assert [trial.number for trial in held if trial] == [0, 1]
    for number in (0, 1):
        sweep.lost(number, f"; see /logs/{number}.err")
    again = sweep.next_trial()
    assert again is not None
    sweep.lost(again.number, "")
    sweep.every_slot_lost(6, "MemoryError")
    assert sweep.why.endswith("; trial 0 was the last to lose one; see /logs/0.err")
    sweep.close()
    assert finish(run.program()) == [0, 1, 2]


def test_an_objective_that_is_no_number_is_a_failed_trial(run_of: Callable[[str], Run]) -> None:
    sweep = run_of("budget: {trials: 1}").program()
    trial = sweep.next_trial()
    assert trial is not None
    sweep.record(0, result(trial, val_top1=float("nan")))
    assert (trial.status, trial.error) == ("failed", "an objective is not a number: val_top1, gflops")


def test_a_full_disk_ends_the_program_and_not_the_trial(run_of: Callable[[str], Run]) -> None:
    run = run_of("budget: {trials: 3}")
    sweep = run.program()
    trial = sweep.next_trial()
    assert trial is not None
    sweep.record(0, {"status": "interrupted", "error": "OSError: no space left on device"})
    assert trial.status == "running"
    assert sweep.next_trial() is None
    assert sweep.outcome().why == "OSError: no space left on device"
    assert finish(run.program()) == [0, 1, 2]


def test_the_front_gets_more_seeds_once_the_search_is_over(run_of: Callable[[str], Run]) -> None:
    run = run_of("budget: {trials: 6}\nreplicates: {seeds: 3}")
    first = run.program()
    searched = [first.next_trial() for _ in range(6)]
    assert first.next_trial() is None, "the front is not known yet"
    assert first.may_have_more()
    for trial in searched:
        assert trial is not None
        # Only the cheapest two are on the front.
        cheap = sorted(one.spec["sparsity"]["target"] for one in searched if one)[-2:]
        accuracy = top1(trial) if trial.spec["sparsity"]["target"] in cheap else 1.0
        first.record(trial.number, result(trial, val_top1=accuracy))
    assert not first.is_complete()
    assert finish(first, at_most=3) == [6, 7, 8]

    second = run.program()
    assert finish(second) == [9]
    assert second.is_complete()
    repeats = [t for t in second.ledger.trials.values() if t.replicate_of is not None]
    originals = {t.replicate_of for t in repeats}
    assert len(originals) == 2
    for number in originals:
        original = second.ledger.trials[number]
        seeds = [t.spec["seed"] for t in repeats if t.replicate_of == number]
        assert seeds == [1, 2]
        for repeat in (t for t in repeats if t.replicate_of == number):
            assert {**repeat.spec, "seed": 0} == original.spec
    assert [t.replicate_of for t in repeats[:2]] == [t.replicate_of for t in repeats[2:]], "in rounds"
    assert sorted(originals) == sorted({t.replicate_of for t in repeats[:2]})


def test_a_replicate_has_a_seed_that_no_trial_of_its_digest_has(
    run_of: Callable[[str], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = "search:\n  seed: {choice: [2147483645, 2147483647]}\n  sparsity.target: {choice: [0.5, 0.6]}\n"
    monkeypatch.setattr("driven_sweep.SPACE", SPACE.partition("search:")[0] + searched + "searcher: {sampler: grid}\n")
    sweep = run_of("replicates: {seeds: 4, near: 100}").program()
    finish(sweep)
    assert statuses(sweep) == ["finished"] * (4 + 4 * 3)
    alike: dict[str, list[int]] = {}
    for trial in sweep.ledger.trials.values():
        alike.setdefault(trial.digest, []).append(trial.spec["seed"])
    assert [sorted(seeds) for seeds in alike.values()] == [[0, 1, 2, 3, 4, 2147483645, 2147483646, 2147483647]] * 2


def test_the_budget_keeps_a_share_for_replicates(run_of: Callable[[str], Run], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    run = run_of("budget: {wall: 100s}\nreplicates: {seeds: 2, share: 0.4}")
    sweep = run.program()
    for _ in range(2):
        trial = sweep.next_trial()
        assert trial is not None
        now[0] += 30.0
        sweep.record(trial.number, result(trial, val_top1=50.0 + trial.number, gflops=1.0))
    assert sweep.spent()["wall"] == 60.0
    replicate = sweep.next_trial()
    assert replicate is not None
    assert replicate.replicate_of == 1, "the search has had its 60 seconds"
    now[0] += 50.0
    assert sweep.budget_hit() == "wall"
    assert sweep.outcome().spent == "wall"
    sweep.pause("the budget is spent")
    sweep.record(replicate.number, {"status": "stopped"})
    sweep.close()
    now[0] += 86_400.0
    assert run.program().spent()["wall"] == pytest.approx(110.0), "no program ran that day"


def test_a_budget_spent_before_the_trials_are_done_is_the_outcome(
    run_of: Callable[[str], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    more = "budget: {trials: 10, gpu_hours: 3}\nresources: {gpus_per_worker: 0.5}"
    sweep = run_of(more).program()
    now[0] += 7200.0  # nothing runs yet: it costs nothing
    for expected in (0.5, 1.5, 3.5):
        trial = sweep.next_trial()
        assert trial is not None
        now[0] += 7200.0 * (expected - sweep.spent()["gpu_hours"])
        assert sweep.spent()["gpu_hours"] == pytest.approx(expected)
        sweep.record(trial.number, result(trial))
    assert sweep.next_trial() is None
    assert not sweep.is_complete()
    outcome = sweep.outcome()
    assert (outcome.end, outcome.spent, outcome.why) == ("budget", "gpu_hours", "the budget's gpu_hours is spent")


def test_a_trial_that_waits_costs_nothing(run_of: Callable[[str], Run], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    run = run_of("budget: {trials: 2, gpu_hours: 9}\nresources: {gpus_per_worker: 1}")
    first = run.program()
    assert [trial.number for trial in (first.next_trial(), first.next_trial()) if trial] == [0, 1]
    now[0] += 3600.0
    first.lost(0, "the machine is gone")
    assert first.spent()["gpu_hours"] == 2.0, "what it cost up to then stays"
    now[0] += 36_000.0
    assert first.spent()["gpu_hours"] == 12.0, "the other one alone"
    assert first.next_trial() is first.ledger.trials[0]
    assert first.spent()["gpu_hours"] == 12.0
    first.pause("SIGINT")
    first.record(0, {"status": "stopped"})
    now[0] += 3600.0
    first.record(1, {"status": "stopped"})
    first.close()
    assert first.spent()["gpu_hours"] == 13.0
    assert run.program().spent()["gpu_hours"] == 13.0


def test_a_trial_resumed_on_other_devices_costs_what_they_cost(
    run_of: Callable[[str], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    run = run_of("budget: {trials: 1, price_per_device_hour: 2}\nresources: {gpus_per_worker: 1}")
    first = run.program()
    first.next_trial()
    now[0] += 3600.0
    first.close()

    file = run.folder.parent / "space.yaml"
    run.space = load_space(file, {"resources.workers": "4", "budget.price_per_device_hour": "3"})
    second = run.program()
    trial = second.next_trial()
    assert trial is not None
    now[0] += 3600.0
    spent = second.spent()
    assert (spent["gpu_hours"], spent["money"]) == (1 + 4, 2 + 4 * 3)
    second.record(0, result(trial))
    second.close()
    row = read_table(run.folder, "trials").iloc[0]
    assert (row["gpu_hours"], row["cost"]) == (1 + 4, 2 + 4 * 3)
    assert Ledger(run.folder, read_only=True).money == 2 + 4 * 3


def test_events_are_one_object_a_line(run_of: Callable[[str], Run]) -> None:
    run = run_of("budget: {trials: 1}")
    sweep = run.program()
    finish(sweep)
    sweep.show_budget()
    sweep.show_budget()  # time has passed, but not enough for a line
    found = [json.loads(line) for line in run.events.getvalue().splitlines()]
    assert [one["event"] for one in found] == ["started", *["epoch"] * 4, "done", "budget"]
    assert found[4]["record"]["epoch"] == 4
    assert found[5]["status"] == "finished"
    assert set(found[6]) == {"event", "time", "wall", "gpu_hours", "money"}


def test_events_are_json_whatever_the_numbers(run_of: Callable[[str], Run]) -> None:
    run = run_of("budget: {trials: 1}")
    sweep = run.program()
    trial = sweep.next_trial()
    assert trial is not None
    sweep.record(0, epoch(trial, 1, val_loss=float("nan"), mismatch=float("inf")))
    sweep.record(0, result(trial, val_top1=float("nan")))

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    found = [json.loads(line, parse_constant=refuse) for line in run.events.getvalue().splitlines()]
    assert (found[1]["record"]["val_loss"], found[1]["record"]["mismatch"]) == (None, None)
    assert found[1]["record"]["val_top1"] == top1(trial)
    assert (found[2]["status"], found[2]["result"]["val_top1"]) == ("failed", None)


def test_the_ledger_alone_rebuilds_tables_and_study(run_of: Callable[[str], Run]) -> None:
    run = run_of("budget: {trials: 5}")
    sweep = run.program()
    finish(sweep, at_most=3)
    sweep.close()
    before = read_table(run.folder, "trials")
    for name in ("study.journal", "trials.parquet", "epochs.parquet", "layers.parquet"):
        (run.folder / name).unlink()
    again = run.program()
    assert finish(again) == [3, 4]
    again.close()
    after = read_table(run.folder, "trials")
    assert after.iloc[:3].to_json() == before.to_json()
    study = again.searcher.study.get_trials()
    assert [trial.values for trial in study] == [[t["val_top1"], t["gflops"]] for _, t in after.iterrows()]
    assert len(Ledger(run.folder, read_only=True).trials) == 5


def test_what_an_earlier_run_finished_is_not_trained_again(run_of: Callable[[str], Run], tmp_path: Path) -> None:
    earlier = run_of("budget: {trials: 4}")
    first = earlier.program()
    finish(first)
    first.close()
    (tmp_path / "later").mkdir()
    later = Run(tmp_path / "later", f"budget: {{trials: 6}}\nwarm_start: {{from: [{earlier.folder}]}}")
    sweep = later.program()
    assert finish(sweep, at_most=1) == [4]
    sweep = later.program()  # killed in between
    assert finish(sweep) == [5]
    assert sweep.is_complete()
    sweep.close()
    before, after = (read_table(run.folder, "trials").sort_values("val_top1") for run in (earlier, later))
    taken = after[after["trial"] < 4]
    for column in ("digest", "val_top1", "gflops", "sparsity", "seed", "params"):
        assert taken[column].tolist() == before[column].tolist()
    assert taken["reused_from"].tolist() == [f"{earlier.folder}, trial {number}" for number in before["trial"]]
    assert after[after["trial"] >= 4]["reused_from"].isna().all()
    assert after["digest"].is_unique
    assert set(read_table(later.folder, "epochs")["trial"]) == {4, 5}
