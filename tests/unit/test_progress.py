"""Test the live table: plain lines when piped, a table on a terminal."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from st3sweep.reporting import live_table as progress_module
from st3sweep.reporting.console import say, warn
from st3sweep.reporting.live_table import LiveTable, format_flops
from st3sweep.runs.ledger import Trial
from st3sweep.trial.settings import TrialSettings

RECORD = {"epoch": 2, "sparsity": 0.4321, "val_top1": 91.234, "gflops": 0.000451, "seconds": 1.5}


def a_trial(spec: TrialSettings, number: int, **changes: Any) -> Trial:
    return Trial(number, {}, spec.model_dump(mode="json"), spec.digest(), 1, **changes)


def test_costs_are_shown_in_the_unit_that_suits_them() -> None:
    assert format_flops(4.089) == "4.09 GFLOPs"
    assert format_flops(0.0408) == "40.8 MFLOPs"
    assert format_flops(0.000451) == "0.451 MFLOPs"


def test_piped_output_is_one_aligned_line_for_each_trial_that_ends(tiny_trial: Callable[..., TrialSettings]) -> None:
    stream = io.StringIO()
    spec = tiny_trial()
    with LiveTable(12, Console(file=stream, width=200)) as progress:
        for number in (0, 1):
            result = {"sparsity": 0.8, "val_top1": 97.5 + number, "gflops": 0.00045, "wall_seconds": 9.06}
            trial = a_trial(spec, number, status="finished", result=result)
            progress.started(trial)
            progress.done(trial)
        progress.done(a_trial(spec, 2, status="failed", error="Diverged: the training loss is nan in epoch 3"))
    lines = stream.getvalue().splitlines()
    assert " ".join(lines[0].split()) == "[ 1/12] trial 0 ST-3 80.0 % 9.1 s 97.50 % 0.45 MFLOPs"
    assert [len(line) for line in lines[:2]] == [len(lines[0])] * 2
    assert lines[2].split(maxsplit=3)[3:] == ["2  failed: Diverged: the training loss is nan in epoch 3"]


def test_the_table_shows_running_trials_with_their_sparsity_now_and_at_the_end(
    tiny_trial: Callable[..., TrialSettings],
) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=True)
    with LiveTable(3, console) as progress:
        failed = a_trial(tiny_trial(), 0, status="failed", error="out of memory")
        progress.done(failed)
        running = a_trial(tiny_trial(), 1, epochs={1: RECORD, 2: RECORD})
        progress.started(running)
        progress.epoch(running, RECORD, rung=1)
        console.print(progress.table())
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert "1 of 3 trials done, 1 failed" in text
    assert re.search(r"trial +0 +failed: out of memory", text)
    assert re.search(r"\n +1 +ST-3 +43\.2 → 80\.0 % +2/3 +91\.23 % +0\.451 MFLOPs +1 +1\.5 +0:01", text)


def test_the_table_is_drawn_while_trials_come_and_go(
    tiny_trial: Callable[..., TrialSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A separate thread draws it: changes between two rows of a table must not end that thread."""
    progress = LiveTable(9, Console(file=io.StringIO()))
    result = {"sparsity": 0.8, "val_top1": 90.0, "gflops": 0.001}
    trials = [a_trial(tiny_trial(), number, epochs={1: RECORD}) for number in range(4)]
    for trial in trials[:3]:
        progress.started(trial)
    progress.epoch(trials[0], RECORD)
    progress.done(a_trial(tiny_trial(), 9, epochs={1: RECORD}, status="finished", result=result))
    epochs_of, now = progress_module._epochs_of, iter([*trials[3:], *[None] * 100])

    def meanwhile(trial: Trial) -> int:
        if (new := next(now)) is not None:
            progress.started(new)
            progress.requeue(trials[0])
        return epochs_of(trial)

    monkeypatch.setattr(progress_module, "_epochs_of", meanwhile)
    assert progress.seconds_left() is not None
    now = iter([trials[0], *[None] * 100])
    progress.table()


def test_a_stopped_trial_is_shown_with_what_it_had_reached(tiny_trial: Callable[..., TrialSettings]) -> None:
    stream = io.StringIO()
    result = {"epochs": 2, "training_gflops": 1.0, "wall_seconds": 3.0, "rung": 1}
    stopped = a_trial(tiny_trial(), 3, epochs={1: RECORD, 2: RECORD}, status="stopped", result=result)
    LiveTable(12, Console(file=stream, width=200)).done(stopped)
    shown = " ".join(stream.getvalue().split())
    assert shown == "[ 1/12] trial 3 ST-3 43.2 → 80.0 % stopped 2/3 91.23 % 0.451 MFLOPs"


BRACKETS = "RuntimeError: [/gloo/transport/tcp/pair.cc:553] Connection closed; see /d/exp[v2]/1.err :warning: 12"


@pytest.mark.parametrize("force_terminal", [False, True])
def test_brackets_in_an_error_or_a_name_are_shown_as_they_are(
    tiny_trial: Callable[..., TrialSettings], *, force_terminal: bool
) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=200, force_terminal=force_terminal)
    progress = LiveTable(12, console)
    progress.done(a_trial(tiny_trial(), 0, status="failed", error=BRACKETS))
    running = a_trial(tiny_trial(), 1)
    assert running.summary is not None
    running.summary = dataclasses.replace(running.summary, method="own[/x] [v2]")
    progress.started(running)
    console.print(progress.table())
    progress.say(BRACKETS)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert shown.count(BRACKETS) == 3
    assert "own[/x] [v2]" in shown


@pytest.mark.parametrize(("print_line", "place"), [(say, 0), (warn, 1)])
def test_brackets_in_a_message_are_shown_as_they_are(
    print_line: Callable[[str], None], place: int, capsys: pytest.CaptureFixture[str]
) -> None:
    print_line(BRACKETS)
    assert capsys.readouterr()[place] == f"{BRACKETS}\n"


def test_budget_front_and_time_left(tiny_trial: Callable[..., TrialSettings], monkeypatch: Any) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    stream = io.StringIO()
    progress = LiveTable(4, Console(file=stream, width=80))
    results = [(0, 90.0, 0.002), (1, 80.0, 0.001), (2, 70.0, 0.0015)]  # the last one is dominated by the second
    for number, top1, gflops in results:
        result = {"sparsity": 0.8, "val_top1": top1, "gflops": gflops}
        trial = a_trial(tiny_trial(), number, epochs={1: RECORD, 2: RECORD, 3: RECORD})
        progress.started(trial)
        for _ in range(3):
            progress.epoch(trial, RECORD)
        trial.status, trial.result = "finished", result
        progress.done(trial)
    now[0] += 90.0  # nine epochs took it: 10 seconds each; the last trial has three to come
    progress.budget({"wall": (90.0, 3600.0), "gpu_hours": (0.5, 2.0), "money": (1.0, None)})
    assert progress.seconds_left() == 30.0
    assert progress.head() == (
        "3 of 4 trials done · 1:30 · 1:30 of 1:00:00 wall time · 0.50 of 2 GPU-hours · about 0:30 left"
    )
    progress.console.print(progress.table())
    front = stream.getvalue().partition("front so far")[2].split("\n")
    assert [line.split()[:2] for line in front if line.strip()] == [["1", "80.00"], ["0", "90.00"]]


@pytest.mark.parametrize(("objectives", "members"), [
    ((("val_error", "min"), ("gflops", "min")), [["1", "error", "0.2"], ["0", "error", "0.1"]]),
    ((("val_loss", "min"), ("gflops", "min")), [["1", "80.00", "%"], ["2", "95.00", "%"]]),  # no own metric
])  # fmt: skip
def test_the_front_is_of_the_own_metric_that_is_searched(
    tiny_trial: Callable[..., TrialSettings], objectives: Any, members: list[list[str]]
) -> None:
    stream = io.StringIO()
    progress = LiveTable(4, Console(file=stream, width=80), objectives)
    points = [(0.1, 90.0, 0.002), (0.2, 80.0, 0.001), (0.3, 95.0, 0.0015)]
    progress.resumed(
        a_trial(tiny_trial(), number, status="finished",
                result={"sparsity": 0.8, "val_error": error, "val_top1": top1, "gflops": gflops})
        for number, (error, top1, gflops) in enumerate(points)
    )  # fmt: skip
    progress.console.print(progress.table())
    front = stream.getvalue().partition("front so far")[2].split("\n")
    assert [line.split()[:3] for line in front if line.strip()] == members


def test_a_resumed_program_shows_that_workers_start(tiny_trial: Callable[..., TrialSettings]) -> None:
    result = {"sparsity": 0.8, "val_top1": 90.0, "gflops": 0.001, "wall_seconds": 9.06}
    done = a_trial(tiny_trial(), 0, epochs={1: RECORD}, status="finished", result=result)
    progress = LiveTable(2, Console(file=io.StringIO()))
    progress.resumed([done])
    assert progress.head() == "1 of 2 trials done · 0:00 · starting workers"
    running = a_trial(tiny_trial(), 1)
    progress.started(running)
    assert progress.head().endswith("starting workers")
    progress.epoch(running, RECORD)
    assert "starting workers" not in progress.head()
    running.status, running.result = "finished", result
    progress.done(running)
    assert progress.head() == "2 of 2 trials done · 0:00", "nothing is left"
    unlimited = LiveTable(None, Console(file=io.StringIO()))
    unlimited.started(running)
    assert unlimited.head() == "0 trials done · 0:00 · starting workers"
    unlimited.epoch(running, RECORD)
    assert unlimited.head() == "0 trials done · 0:00"


def test_replicates_say_what_they_repeat_and_do_not_count(tiny_trial: Callable[..., TrialSettings]) -> None:
    stream = io.StringIO()
    result = {"sparsity": 0.8, "val_top1": 90.0, "gflops": 0.001, "wall_seconds": 9.06}
    searched = a_trial(tiny_trial(), 0, status="finished", result=result)
    replicate = a_trial(tiny_trial(), 1, status="finished", result=result, replicate_of=0)
    for total, places in ((1, ["[1/1]", "(as"]), (None, ["[1]", "(as"])):
        progress = LiveTable(total, Console(file=stream, width=200))
        for trial in (searched, replicate):
            progress.done(trial)
        assert [line.split()[0] for line in stream.getvalue().splitlines()] == places
        assert "· 1 replicate done" in progress.head()
        stream.truncate(stream.seek(0))


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_a_narrow_terminal_shows_the_accuracies_whole(tiny_trial: Callable[..., TrialSettings], width: int) -> None:
    console = Console(file=io.StringIO(), width=width, force_terminal=True)
    progress = LiveTable(9, console)
    result = {"sparsity": 0.8, "val_top1": 97.25, "gflops": 0.00045, "wall_seconds": 9.06}
    progress.done(a_trial(tiny_trial(), 0, status="finished", result=result))
    progress.started(a_trial(tiny_trial(), 1, epochs={1: RECORD, 2: RECORD}))
    progress.epoch(a_trial(tiny_trial(), 1, epochs={1: RECORD, 2: RECORD}), RECORD, rung=1)
    with console.capture() as captured:
        console.print(progress.table())
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", captured.get())
    assert text.count("97.25 %") == 2, "in the table and in the front"
    assert "91.23 %" in text
    assert "…" not in text
    assert ("s/epoch" in text) is (width >= 80)
    assert all(len(line) <= width for line in text.splitlines())
