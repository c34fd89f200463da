"""What a person sees: plain lines when piped, a table on a terminal."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

from rich.console import Console

from st3sweep.spec import TrialSpec
from st3sweep.sweep.ledger import Trial
from st3sweep.sweep.progress import Progress, format_flops

RECORD = {"epoch": 2, "sparsity": 0.4321, "val_top1": 91.234, "gflops": 0.000451}


def a_trial(spec: TrialSpec, number: int, **changes: Any) -> Trial:
    return Trial(number, {}, spec.model_dump(mode="json"), spec.digest(), 1, **changes)


def test_costs_are_shown_in_the_unit_that_suits_them() -> None:
    assert format_flops(4.089) == "4.09 GFLOPs"
    assert format_flops(0.0408) == "40.8 MFLOPs"
    assert format_flops(0.000451) == "0.451 MFLOPs"


def test_piped_output_is_one_aligned_line_for_each_trial_that_ends(tiny_trial: Callable[..., TrialSpec]) -> None:
    stream = io.StringIO()
    spec = tiny_trial()
    with Progress(12, Console(file=stream, width=200)) as progress:
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
    tiny_trial: Callable[..., TrialSpec],
) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=120, force_terminal=True)
    with Progress(3, console) as progress:
        failed = a_trial(tiny_trial(), 0, status="failed", error="out of memory")
        progress.done(failed)
        running = a_trial(tiny_trial(), 1, epochs={1: RECORD, 2: RECORD})
        progress.started(running)
        progress.epoch(running, RECORD)
        console.print(progress._table())
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert "1 of 3 trials done, 1 failed" in text
    assert re.search(r"trial +0 +failed: out of memory", text)
    assert re.search(r"trial +1 +ST-3 +43\.2 → +80\.0 % +epoch 2/3 +91\.23 % +0\.451 MFLOPs", text)
