"""Test that training killed at random moments and resumed ends bit-identical to undisturbed training."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from compare import flat, timeless

from st3sweep import data
from st3sweep.training import checkpoint
from st3sweep.training.loop import fit
from st3sweep.training.saver import BEST, LAST
from st3sweep.training.world import World
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.storage.local import Local

TRAIN = """\
import json, os, sys
from pathlib import Path
import torch
from st3sweep.trial.settings import TrialSettings
from st3sweep.training.loop import fit
from st3sweep.training.world import World

torch.set_num_threads(1)
folder = Path(sys.argv[1])
if (folder / "as_on_a_gpu").exists():
    from st3sweep.sparse import flat
    flat.launch_bound = lambda _: True
spec = TrialSettings.model_validate_json((folder / "spec.json").read_text())
for _ in sys.stdin:
    if (child := os.fork()) == 0:
        try:
            print(os.getpid(), flush=True)
            result = fit(spec, World(), lambda record: print(record["epoch"], flush=True), folder, checkpoint_seconds=0)
            (folder / "result.json").write_text(json.dumps(result))
            os._exit(0)
        finally:
            os._exit(1)
    print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.parametrize(
    ("kills", "as_on_a_gpu"),
    [(3, False), *(pytest.param(kills, gpu, marks=pytest.mark.slow) for kills, gpu in ((20, False), (5, True)))],
)
def test_training_survives_kills_at_random_moments(
    kills: int,
    as_on_a_gpu: bool,
    tiny_trial: Callable[..., TrialSettings],
    digits: data.Splits,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dropout makes the generator's state matter, fine-tuning the fixed mask. On a GPU, a thread writes checkpoints."""
    if as_on_a_gpu:
        monkeypatch.setattr("st3sweep.sparse.flat.launch_bound", lambda _: True)
    spec = tiny_trial(
        model={"arch": "wide_resnet", "depth": 10, "width": 1, "dropout": 0.3},
        train={"epochs": 4 * kills, "batch_size": 16, "finetune_epochs": 2},
    )
    began = time.monotonic()
    whole = fit(spec, World(), lambda _: False, tmp_path / "whole", digits)
    epoch_seconds = (time.monotonic() - began) / (4 * kills + 2)
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / "spec.json").write_text(spec.model_dump_json())
    if as_on_a_gpu:
        (parts / "as_on_a_gpu").touch()
    seed = random.randrange(2**32)
    with program(parts) as trainings:
        within = kill_while_it_trains(trainings, parts, kills, random.Random(seed), epoch_seconds)
        assert within > 0, f"seed {seed}: no kill found a checkpoint within an epoch"
        train(trainings)
        assert end(trainings) == 0
    assert timeless(json.loads((parts / "result.json").read_text())) == timeless(whole), f"seed {seed}"
    for name in (LAST, BEST):
        a, b = (checkpoint.load(Local(tmp_path / folder), name) for folder in ("whole", "parts"))
        assert flat(a) == flat(b), f"seed {seed}: {name}"


@contextlib.contextmanager
def program(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a program that trains the trial in ``folder`` in a forked process for each line: torch is imported once."""
    command = [sys.executable, "-c", TRAIN, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        yield running


def train(trainings: subprocess.Popen[str]) -> int:
    """Begin a training; return the number of its process."""
    assert trainings.stdin is not None
    assert trainings.stdout is not None
    trainings.stdin.write("train\n")
    trainings.stdin.flush()
    return int(trainings.stdout.readline())


def end(trainings: subprocess.Popen[str]) -> int:
    """Wait for the end of a training; return its exit code."""
    assert trainings.stdout is not None
    return next(int(line.split()[1]) for line in trainings.stdout if line.startswith("ended"))


def kill_while_it_trains(
    trainings: subprocess.Popen[str], folder: Path, kills: int, rng: random.Random, epoch_seconds: float
) -> int:
    """Kill ``kills`` runs, each after an epoch and a random time; return how many left a checkpoint within an epoch."""
    within = 0
    for _ in range(kills):
        process = train(trainings)
        assert trainings.stdout is not None
        before = last(folder)["epoch"] if (folder / LAST).exists() else 0
        for line in trainings.stdout:  # resumed epochs are reported again
            if int(line) > before:
                break
        time.sleep(rng.uniform(0.0, 2.0) * epoch_seconds)  # so that the epochs suffice for all kills anywhere
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        assert end(trainings) == -signal.SIGKILL, "training ended before the kill: use more epochs"
        within += last(folder)["step"] > 0
    return within


def last(folder: Path) -> dict[str, int]:
    found, _ = checkpoint.load_latest(Local(folder), LAST)
    assert found is not None
    return found
