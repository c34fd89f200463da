"""Test which checkpoints of ended trials stay, with a sweep's real state and real files, without Ray."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from driven_sweep import Run, epoch, finish, result
from hypothesis import given, settings
from hypothesis import strategies as st

from st3sweep.execution import runner
from st3sweep.pareto import pareto_mask
from st3sweep.reporting.json_events import JsonEvents
from st3sweep.runs.folder import trial_folder
from st3sweep.runs.ledger import LedgerError, Trial
from st3sweep.space.loading import load_space
from st3sweep.sweep.checkpoints import Fronts
from st3sweep.sweep.state import Sweep
from st3sweep.training.loop import fit
from st3sweep.training.world import World
from st3sweep.trial.recipes import resolve
from st3sweep.util.errors import UserError

ALL = {"last.ckpt", "last.ckpt.previous", "best.ckpt"}
RunOf = Callable[[str], Run]


def begin(sweep: Sweep) -> Trial:
    """Take the next trial, and write the files that its worker would: three checkpoints, and others."""
    trial = sweep.next_trial()
    assert trial is not None
    folder = trial_folder(sweep.folder, trial.number)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*ALL, "config.yaml", "model.safetensors", "calibration.json"):
        (folder / name).write_text(f"{name} of {trial.number}")
    sweep.record(trial.number, epoch(trial, 1, val_top1=50.0, gflops=1.0))
    return trial


def ended(sweep: Sweep, top1: float, gflops: float) -> Trial:
    """Train a trial to its end with this result."""
    trial = begin(sweep)
    sweep.record(trial.number, result(trial, val_top1=top1, gflops=gflops))
    return trial


def five_with_all(sweep: Sweep, sizes: dict[str, int]) -> None:
    """Run trials 0 dominated, 1 on the front, 2 stopped, 3 failed, 4 unfinished, with files of ``sizes`` bytes."""
    ended(sweep, 60.0, 0.2)
    ended(sweep, 70.0, 0.1)
    for end in ({"status": "stopped"}, {"status": "failed", "error": "Diverged"}):
        trial = begin(sweep)
        sweep.to_stop.add(trial.number)
        sweep.record(trial.number, end)
    begin(sweep)
    sweep.close()
    for number in range(5):
        for name, size in sizes.items():
            (trial_folder(sweep.folder, number) / name).write_bytes(bytes(size))


def left(run: Run, trial: Trial | int) -> set[str]:
    """Return the checkpoints that a trial has; its other files must be there."""
    number = trial if isinstance(trial, int) else trial.number
    names = set(os.listdir(trial_folder(run.folder, number)))
    assert names >= {"config.yaml", "model.safetensors", "calibration.json"}
    return {name for name in names if ".ckpt" in name or name == "pilots"}


def change(run: Run, before: str, after: str) -> None:
    """Change the space of the run's next programs."""
    path = run.folder.parent / "space.yaml"
    path.write_text(path.read_text().replace(before, after))
    run.space = load_space(path)


def notes(run: Run) -> list[str]:
    events = [json.loads(line) for line in run.events.getvalue().splitlines()]
    return [event["text"] for event in events if event["event"] == "note"]


def one_of_each(run: Run) -> tuple[Trial, Trial, Trial, Trial]:
    """Run four trials: one finishes, one is stopped early, one fails, one has not ended. Leftovers lie in all."""
    sweep = run.program()
    trials = [begin(sweep) for _ in range(4)]
    for trial in trials:
        folder = trial_folder(run.folder, trial.number)
        (folder / ".last.ckpt.tmp").write_text("half of a checkpoint, from a killed worker")
        (folder / "pilots" / "0").mkdir(parents=True)
        (folder / "pilots" / "0" / "last.ckpt").write_text("of a pilot")
    finished, stopped, failed, running = trials
    sweep.record(finished.number, result(finished))
    sweep.to_stop.add(stopped.number)
    sweep.record(stopped.number, {"status": "stopped", "epochs": 1})
    sweep.record(failed.number, {"status": "failed", "error": "Diverged: the training loss is nan in epoch 2"})
    assert [trial.status for trial in trials] == ["finished", "stopped", "failed", "running"]
    return finished, stopped, failed, running


def pilots(run: Run, trial: Trial) -> list[str]:
    return [path.name for path in (trial_folder(run.folder, trial.number) / "pilots" / "0").iterdir()]


def test_by_default_what_commands_read_again_stays(run_of: RunOf) -> None:
    run = run_of("budget: {trials: 9}")
    finished, stopped, failed, running = one_of_each(run)
    assert left(run, finished) - {"pilots"} == {"best.ckpt"}
    assert left(run, stopped) - {"pilots"} == {"last.ckpt", "best.ckpt"}
    assert left(run, failed) - {"pilots"} == {"last.ckpt"}
    assert left(run, running) == {*ALL, ".last.ckpt.tmp", "pilots"}
    assert [pilots(run, trial) for trial in (finished, stopped, failed, running)] == [[], [], [], ["last.ckpt"]]
    assert notes(run) == []


def test_front_keeps_no_stopped_or_failed_trial(run_of: RunOf) -> None:
    run = run_of("budget: {trials: 9}\nresources: {checkpoints: front}")
    finished, stopped, failed, running = one_of_each(run)
    assert left(run, finished) - {"pilots"} == {"best.ckpt"}
    assert left(run, stopped) == left(run, failed) == {"pilots"}
    assert left(run, running) == {*ALL, ".last.ckpt.tmp", "pilots"}


def test_all_keeps_all(run_of: RunOf) -> None:
    run = run_of("budget: {trials: 9}\nresources: {checkpoints: all}")
    trials = one_of_each(run)
    run.program().checkpoints.all_ended()
    assert [left(run, trial) for trial in trials] == [{*ALL, ".last.ckpt.tmp", "pilots"}] * 4


def test_a_dominated_trial_loses_its_best_as_soon_as_it_is_dominated(run_of: RunOf) -> None:
    run = run_of("budget: {trials: 9}\nresources: {checkpoints: front}")
    sweep = run.program()
    cheap, middle = ended(sweep, 60.0, 0.1), ended(sweep, 70.0, 0.5)
    twin = ended(sweep, 70.0, 0.5)
    assert [left(run, trial) for trial in (cheap, middle, twin)] == [{"best.ckpt"}] * 3, "equal points share the front"
    worse = ended(sweep, 65.0, 0.6)
    assert left(run, worse) == set(), "dominated from its first moment"
    running = begin(sweep)
    better = ended(sweep, 71.0, 0.5)
    assert [left(run, trial) for trial in (middle, twin)] == [set(), set()]
    assert [left(run, trial) for trial in (cheap, better)] == [{"best.ckpt"}] * 2
    assert left(run, running) == ALL


def test_the_front_is_that_of_the_objectives_and_that_of_pick(run_of: RunOf) -> None:
    run = run_of("budget: {trials: 9}\nresources: {checkpoints: front}\nobjectives: [{metric: val_loss, goal: min}]")
    sweep = run.program()

    def trained(loss: float, top1: float, gflops: float) -> Trial:
        trial = begin(sweep)
        sweep.record(trial.number, result(trial, val_loss=loss, val_top1=top1, gflops=gflops))
        return trial

    lowest = trained(0.1, 50.0, 1.0)
    picked = trained(0.2, 60.0, 0.5)
    neither = trained(0.3, 55.0, 0.6)
    assert [left(run, trial) for trial in (lowest, picked, neither)] == [{"best.ckpt"}, {"best.ckpt"}, set()]


def test_replicates_stay_with_the_trial_that_they_repeat(run_of: RunOf) -> None:
    run = run_of("budget: {trials: 2}\nreplicates: {seeds: 2}\nresources: {checkpoints: front}")
    sweep = run.program()
    cheap, dear = ended(sweep, 60.0, 0.1), ended(sweep, 70.0, 0.5)
    repeats = [ended(sweep, 99.0, 0.01), ended(sweep, 10.0, 9.0)]  # their results do not count for the front
    assert [trial.replicate_of for trial in repeats] == [cheap.number, dear.number]
    assert [left(run, trial) for trial in (cheap, dear, *repeats)] == [{"best.ckpt"}] * 4
    sweep.close()

    change(run, "budget: {trials: 2}", "budget: {trials: 3}")
    sweep = run.program()
    best = ended(sweep, 71.0, 0.5)
    assert [left(run, trial) for trial in (cheap, repeats[0], best)] == [{"best.ckpt"}] * 3
    assert [left(run, trial) for trial in (dear, repeats[1])] == [set(), set()]


@pytest.mark.parametrize("keep", ["finished", "front"])
def test_a_program_killed_before_the_removal_leaves_it_to_the_next(keep: str, run_of: RunOf) -> None:
    run = run_of(f"budget: {{trials: 9}}\nresources: {{checkpoints: {keep}}}")
    first = run.program()
    good = begin(first)
    done = {key: value for key, value in result(good, val_top1=90.0, gflops=0.1).items() if key != "status"}
    first.ledger.add_done(good.number, "finished", done)  # and now it is killed
    assert left(run, good) == ALL

    second = run.program()
    bad = begin(second)
    done = {**done, "val_top1": 80.0}
    second.ledger.add_done(bad.number, "finished", done)  # again
    running = begin(second)

    third = run.program()
    assert left(run, bad) == ALL
    third.checkpoints.all_ended()
    assert left(run, good) == {"best.ckpt"}
    assert left(run, bad) == ({"best.ckpt"} if keep == "finished" else set())
    assert left(run, running) == ALL, "it resumes from them"


def test_nothing_is_removed_before_the_ledger_has_recorded_the_end(run_of: RunOf) -> None:
    run = run_of("budget: {trials: 9}\nresources: {checkpoints: front}")
    sweep = run.program()
    ended(sweep, 90.0, 0.1)
    trial = begin(sweep)
    sweep.ledger.close()
    with open("/dev/full", "ab", buffering=0) as full:  # a full disk
        sweep.ledger._log._file = full
        with pytest.raises(LedgerError, match="cannot be written"):
            sweep.record(trial.number, result(trial, val_top1=1.0, gflops=1.0))
    assert left(run, trial) == ALL
    assert left(run, 0) == {"best.ckpt"}


def test_what_cannot_be_removed_is_said_once_and_ends_nothing(run_of: RunOf) -> None:
    run = run_of("budget: {trials: 3}")
    sweep = run.program()
    for _ in range(2):
        trial = begin(sweep)
        last = trial_folder(run.folder, trial.number) / "last.ckpt"
        last.unlink()
        last.mkdir()  # no file system lets unlink remove it, whoever asks
        sweep.record(trial.number, result(trial))
        assert left(run, trial) == {"last.ckpt", "best.ckpt"}, "the previous one could be removed"
    assert len(notes(run)) == 1
    assert "trials/0000/last.ckpt: cannot be removed (" in notes(run)[0]
    assert finish(sweep) == [2]


def test_a_stopped_trial_is_promoted_only_while_it_has_a_checkpoint(run_of: RunOf) -> None:
    run = run_of("budget: {trials: 9}\nresources: {checkpoints: front}")
    _, stopped, _, _ = one_of_each(run)
    again = run.program()
    with pytest.raises(UserError) as refused:
        again.promote([stopped.number])
    config = trial_folder(run.folder, stopped.number) / "config.yaml"
    assert str(refused.value) == (
        f"--promote {stopped.number}: its checkpoint was removed (resources.checkpoints: front, or clean); "
        f"train it anew with: st3sweep train {config}"
    )
    assert again.ledger.trials[stopped.number].status == "stopped"


def test_a_trial_promoted_in_the_session_that_changes_the_setting_keeps_its_checkpoint(run_of: RunOf) -> None:
    run = run_of("budget: {trials: 9}")
    finished, stopped, failed, _ = one_of_each(run)
    change(run, "budget:", "resources: {checkpoints: front}\nbudget:")
    sweep = run.program()
    sweep.promote([stopped.number])
    sweep.checkpoints.all_ended()
    assert {"last.ckpt", "best.ckpt"} <= left(run, stopped)
    assert left(run, failed) == {"pilots"}
    assert left(run, finished) == {"best.ckpt", "pilots"}


def test_resuming_removes_what_was_left_but_not_what_it_promotes(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of("budget: {wall: 60s}")
    finished, stopped, failed, running = one_of_each(run)
    killed, later = run.program(), time.time() + 100.0
    with monkeypatch.context() as patched:
        patched.setattr("time.time", lambda: later)
        killed.ledger.add_closed()  # the budget is spent, so that the next program starts no slots
    assert run.program().blocking_limit() == "wall"
    change(run, "budget:", "resources: {checkpoints: front}\nbudget:")
    with runner.sweep(
        run.space, run.folder, None, JsonEvents(None, run.events), promote=[stopped.number]
    ) as outcome:  # fmt: skip
        assert outcome.end == "budget"
    assert [left(run, trial) - {"pilots"} for trial in (finished, stopped, failed, running)] == [
        {"best.ckpt"}, {"last.ckpt", "best.ckpt"}, set(), {*ALL, ".last.ckpt.tmp"},
    ]  # fmt: skip


def test_a_reused_result_is_on_the_front_and_its_files_stay(run_of: RunOf, tmp_path: Path) -> None:
    front = "resources: {checkpoints: front}\n"
    earlier = run_of(front + "budget: {trials: 1}")
    sweep = earlier.program()
    source = ended(sweep, 90.0, 0.1)
    sweep.close()
    (tmp_path / "later").mkdir()
    later = Run(tmp_path / "later", f"{front}budget: {{trials: 3}}\nwarm_start: {{from: [{earlier.folder}]}}")
    folder = trial_folder(later.folder, 0)
    folder.mkdir(parents=True)
    (folder / "best.ckpt").write_text("somebody's copy")
    sweep = later.program()
    worse, better = ended(sweep, 80.0, 0.2), ended(sweep, 95.0, 0.05)
    assert sweep.ledger.trials[0].result["reused_from"] == f"{earlier.folder}, trial 0"
    assert (left(later, worse), left(later, better)) == (set(), {"best.ckpt"})
    later.program().checkpoints.all_ended()
    assert os.listdir(folder) == ["best.ckpt"], "dominated, but not this run's"
    assert left(earlier, source) == {"best.ckpt"}


VALUES = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12)


@given(VALUES)
@settings(max_examples=50)
def test_fronts_grow_as_a_mask_over_all_says_and_no_trial_comes_back(values: list[tuple[int, int]]) -> None:
    fronts, gone, trials = Fronts((("val_top1", "max"), ("gflops", "min"))), set[int](), list[Trial]()
    for number, (top1, gflops) in enumerate(values):
        found: dict[str, Any] = {"val_top1": float(top1), "gflops": float(gflops)}
        trials.append(Trial(number, {}, {}, "digest", 1, status="finished", result=found))
        gone |= fronts.add([trials[-1]])
        mask = pareto_mask(values[: number + 1], ("max", "min"))
        assert [trial in fronts for trial in trials] == mask.tolist()
        assert not any(trials[one] in fronts for one in gone)
    assert [trial in Fronts((("gflops", "min"),), trials) for trial in trials] == [
        bool(on) or gflops == min(cost for _, cost in values)
        for on, (_, gflops) in zip(pareto_mask(values, ("max", "min")), values, strict=True)
    ]


def test_an_early_stopped_trial_continues_from_what_stays(tmp_path: Path, run_of: RunOf) -> None:
    """With real training: the promoted trial has the numbers of one that was never stopped."""
    run = run_of("budget: {trials: 2}")
    change(run, "image_size: 8}", "image_size: 8, train_limit: 128, validation: 100}")
    sweep = run.program()
    trial = sweep.next_trial()
    assert trial is not None
    spec, folder = resolve(trial.spec), trial_folder(run.folder, trial.number)

    def stop_after(count: int) -> Callable[[dict[str, Any]], bool]:
        def report(record: dict[str, Any]) -> bool:
            sweep.record(trial.number, record)
            return bool(record["epoch"] == count)

        return report

    sweep.to_stop.add(trial.number)
    sweep.record(trial.number, fit(spec, World(), stop_after(3), folder))
    assert trial.status == "stopped"
    assert {path.name for path in folder.glob("*.ckpt*")} <= {"last.ckpt", "best.ckpt"}
    sweep.promote([trial.number])
    sweep.record(trial.number, fit(spec, World(), stop_after(0), folder))
    assert {path.name for path in folder.glob("*.ckpt*")} == {"best.ckpt"}
    undisturbed = fit(spec, World(), lambda _: False, tmp_path / "undisturbed")
    for name in ("val_top1", "test_top1", "val_loss", "gflops", "best_epoch"):
        assert trial.result[name] == undisturbed[name], name
