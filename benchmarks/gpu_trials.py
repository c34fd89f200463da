"""Trials for ``gpu.py`` on images made on the spot, with what a bare machine has: torch, numpy and pydantic."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "contracts")]
for absent in ("PIL", "PIL.Image", "pyarrow", "pyarrow.compute", "pyarrow.parquet", "safetensors", "safetensors.torch"):
    try:
        __import__(absent)
    except ImportError:  # imported by formats of data and files, of which none is read here
        sys.modules[absent] = MagicMock(name=absent)

import numpy as np  # noqa: E402
import torch  # noqa: E402

from st3sweep import data  # noqa: E402
from st3sweep.data.images import ArrayImages  # noqa: E402
from st3sweep.training.graph import Steps  # noqa: E402
from st3sweep.training.loop import fit, start  # noqa: E402
from st3sweep.training.numerics import with_precision_of  # noqa: E402
from st3sweep.training.step import TrainingStep  # noqa: E402
from st3sweep.training.world import World  # noqa: E402
from st3sweep.trial.recipes import overlay, resolve  # noqa: E402
from st3sweep.trial.settings import TrialSettings  # noqa: E402

Rows = dict[str, Any]  # what a part found, by name


@dataclass(frozen=True)
class Run:
    """What the arguments ask for."""

    device: torch.device
    quick: bool
    data: str | None

    @property
    def world(self) -> World:
        return World(device=self.device)

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"


def images(count: int, size: int, classes: int = 10) -> data.Splits:
    """Return random images that can be learnt a little: each class has a colour of its own."""
    generator = np.random.default_rng(0)

    def split(n: int) -> ArrayImages:
        labels = generator.integers(0, classes, n)
        pixels = generator.integers(0, 200, (n, 3, size, size), dtype=np.uint8)
        pixels += (labels % 8 * 7).astype(np.uint8)[:, None, None, None]
        return ArrayImages(pixels, labels, np.arange(n))

    return data.Splits(split(count), split(max(count // 9, 32)), None, classes, (0.5,) * 3, (0.25,) * 3)


def trial(sparsity: dict[str, Any], **changes: Any) -> TrialSettings:
    fixed = {"data": {"dataset": "cifar10", "root": "unused"}, "sparsity": sparsity}
    return resolve(overlay({"model": {"arch": "cifar_resnet"}, **fixed}, changes))


def small(run: Run, sparsity: dict[str, Any], **train: Any) -> TrialSettings:
    """Return a trial of eight steps an epoch, of two epochs and one of fine-tuning, for ``small_images``."""
    train = {"epochs": 2, "finetune_epochs": 1, "batch_size": 32, "precision": "fp32", **train}
    if sparsity["method"] in ("gmp", "rigl", "granet"):
        sparsity = {**sparsity, "interval": 0.25}
    return trial(sparsity, model={"depth": 8, "width": 4 if run.quick else 16}, train=train)


def small_images() -> data.Splits:
    return images(256, 32)


def fitted(spec: TrialSettings, device: torch.device, splits: data.Splits, stop_after: int | None = None) -> list[Any]:
    """Return train loss, validation loss and sparsity of each epoch of ``fit``."""
    with tempfile.TemporaryDirectory() as folder:
        return fit_in(Path(folder), spec, device, splits, stop_after)


def fit_in(
    folder: Path, spec: TrialSettings, device: torch.device, splits: data.Splits, stop_after: int | None = None
) -> list[Any]:
    found: list[Any] = []

    def report(record: dict[str, Any]) -> bool:
        found.append([record[name] for name in ("train_loss", "val_loss", "sparsity")])
        return record["epoch"] == stop_after

    fit(spec, World(device=device), report, folder, splits)
    return found


class Training:
    """A trial whose steps are taken one at a time, at the end of its ramp; in a stream of its own on a GPU."""

    def __init__(self, run: Run, spec: TrialSettings, splits: data.Splits):
        self.spec, self.on_gpu = with_precision_of(run.device, spec), run.on_gpu
        self.stream = torch.cuda.Stream(run.device) if run.on_gpu else None
        with self.here():
            state = start(self.spec, run.world, splits)
            self.steps = Steps(TrainingStep(state, self.spec, run.world, splits), self.spec, run.world)
            self.inputs = list(self.steps.step.batches.inputs(0, 0))
            self.steps.step.begin_epoch(0)
            state.model.train()
        self.state, self.taken = state, 0

    def here(self) -> Any:
        return torch.cuda.stream(self.stream) if self.stream is not None else nullcontext()

    def step(self) -> None:
        with self.here():
            self.state.optimizer.set_rates(0.01, self.state.optimizer.param_groups[0]["weight_decay"])
            self.steps.take(self.inputs[self.taken % len(self.inputs)], 0.9)
        self.taken += 1


def wait(run: Run) -> None:
    if run.on_gpu:
        torch.cuda.synchronize(run.device)


def milliseconds(run: Run, step: Callable[[], Any], warm_up: int = 8, rounds: int = 5, steps: int = 20) -> Rows:
    """Return the time of a step: the median over rounds of several, and their range."""
    warm_up, rounds, steps = (2, 2, 1) if run.quick else (warm_up, rounds, steps)
    for _ in range(warm_up):
        step()
    found = []
    for _ in range(rounds):
        wait(run)
        started = time.perf_counter()
        for _ in range(steps):
            step()
        wait(run)
        found.append(1e3 * (time.perf_counter() - started) / steps)
    return {"ms": statistics.median(found), "from": min(found), "to": max(found)}


@contextmanager
def no_synchronisation(run: Run) -> Iterator[None]:
    """Make host-device synchronisation an error while open."""
    if run.on_gpu:
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if run.on_gpu:
            torch.cuda.set_sync_debug_mode("default")
