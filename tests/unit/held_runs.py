"""Runs in folders without Ray, also while another program holds them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from driven_sweep import Run, epoch, finish

HOLD = """\
import sys, time
from pathlib import Path
from st3sweep.runs.folder import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def a_run(folder: Path, more: str) -> Run:
    run = Run(folder, more)
    (run.folder / "resolved.yaml").write_text(yaml.safe_dump(run.space.document.data))
    return run


@contextmanager
def held(folder: Path) -> Iterator[int]:
    """Hold the run in another process; yield its pid."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process.pid
        finally:
            process.communicate("")


def half_done(folder: Path) -> Run:
    """Make a run in which two trials of five have ended and the third has one epoch."""
    run = a_run(folder, "budget: {trials: 5}")
    sweep = run.program()
    finish(sweep, at_most=2)
    trial = sweep.next_trial()
    assert trial is not None
    sweep.record(2, epoch(trial, 1, val_loss=float("nan")))
    sweep.close()
    return run
