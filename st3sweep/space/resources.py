"""Settings of what a sweep may use: the resources of a trial, the budget, and the replicates."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from st3sweep.space.prices import Market
from st3sweep.trial.fields import Frozen, fail
from st3sweep.util.errors import UserError
from st3sweep.util.text import counted

TUNE_ACTOR = {"memory": 1}  # bytes, of each slot: Tune refuses none at all, and of CPUs a worker may need the last
DEFAULT_SHARE = 0.25  # of the budget, kept for replicates
GIB = 2**30
MPS_CLIENTS = 48  # that one GPU serves at a time
KIND = "accelerator_type:"  # of the resource by which Ray marks a machine with GPUs of one kind
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def _duration(text: Any) -> str:
    if not isinstance(text, str) or not re.fullmatch(r"\d+(\.\d+)?[smhd]", text) or not seconds(text):
        raise ValueError("must be a number above 0 with a unit: s, m, h or d, e.g. 72h")
    return text


Checkpoints = Literal["front", "finished", "all"]
Duration = Annotated[str, BeforeValidator(_duration)]


def seconds(duration: str) -> float:
    """Convert a duration such as 90s, 30m, 72h or 3d to seconds."""
    return float(duration[:-1]) * _SECONDS[duration[-1]]


class Resources(Frozen):
    """Resources of one trial; ``slots`` trials run at a time (null: as many as fit on the cluster).

    A fraction of a GPU shares it among trials of one worker, as ``trials_per_gpu`` does of whole GPUs: ``auto`` is as
    many as a GPU's memory has room for, measured where the sweep starts. Workers run on machines whose GPUs are of the
    kind ``accelerator`` (Ray's name, e.g. A100; null: any) and that have ``memory_per_worker`` GiB left for each, which
    Ray counts but does not enforce. ``preemptions_per_hour`` is how often a machine is taken away, from which the
    interval of checkpoints within an epoch follows (null: a minute). A trial fails after ``hang_limit`` without a
    report. Worker processes are replaced after ``trials_per_process`` trials; null: never. ``checkpoints`` says which
    stay on disk once a trial has ended (``sweep/checkpoints.py``).
    """

    workers: int = Field(1, ge=1)
    cpus_per_worker: int = Field(1, ge=1)
    gpus_per_worker: float = Field(0, ge=0, le=1)
    trials_per_gpu: Literal["auto"] | Annotated[int, Field(ge=1, le=MPS_CLIENTS)] | None = None
    accelerator: str | None = Field(None, min_length=1)
    memory_per_worker: float | None = Field(None, gt=0)  # GiB
    preemptions_per_hour: float | None = Field(None, gt=0)  # of one machine
    slots: int | None = Field(None, ge=1)
    hang_limit: Duration | None = None
    trials_per_process: int | None = Field(None, ge=1)
    checkpoints: Checkpoints = "finished"

    @model_validator(mode="after")
    def _whole_gpus(self) -> Resources:
        if 0 < self.gpus_per_worker < 1 and self.workers > 1:
            message = f"must be 0 or 1 with {self.workers} workers: two ranks cannot share a GPU"
            raise fail("resources.gpus_per_worker", f"{message} (got {self.gpus_per_worker:g})")
        return self

    @model_validator(mode="after")
    def _kind_of_gpu(self) -> Resources:
        if self.accelerator is not None and not self.gpus_per_worker:
            raise fail("resources.accelerator", "has no effect: resources.gpus_per_worker is 0")
        return self

    @model_validator(mode="after")
    def _trials_on_whole_gpus(self) -> Resources:
        if self.trials_per_gpu is None:
            return self
        if not self.gpus_per_worker:
            raise fail("resources.trials_per_gpu", "has no effect: resources.gpus_per_worker is 0")
        if self.gpus_per_worker != 1:
            raise fail("resources.trials_per_gpu", f"needs gpus_per_worker: 1 (got {self.gpus_per_worker:g})")
        if self.workers > 1 and self.trials_per_gpu != 1:
            message = f"must be 1 with {self.workers} workers: two ranks cannot share a GPU"
            raise fail("resources.trials_per_gpu", f"{message} (got {self.trials_per_gpu})")
        return self

    def with_trials_per_gpu(self, trials: int) -> Resources:
        return self.model_copy(update={"trials_per_gpu": trials})

    @property
    def gpu_share(self) -> float:
        """GPU of one worker, or its part of one; the whole while ``trials_per_gpu: auto`` is not decided."""
        trials = self.trials_per_gpu
        return self.gpus_per_worker / trials if isinstance(trials, int) else self.gpus_per_worker

    def of_worker(self) -> dict[str, float]:
        """Return what a worker asks Ray for: memory in bytes, and a trace of what marks machines with a kind of GPU."""
        # Ray counts ten-thousandths, rounded: of six times 1/6 the last would not fit.
        gpu = math.floor(self.gpu_share * 1e4 + 1e-6) / 1e4
        asked = {"CPU": float(self.cpus_per_worker), "GPU": gpu}
        asked["memory"] = int((self.memory_per_worker or 0) * GIB)
        asked[f"{KIND}{self.accelerator}"] = 0.001 if self.accelerator else 0.0
        return {name: amount for name, amount in asked.items() if amount}

    @property
    def may_share_gpus(self) -> bool:
        """Whether several trials may run on one GPU."""
        return self.trials_per_gpu == "auto" or 0 < self.gpu_share < 1

    @property
    def gpus(self) -> float:
        """GPUs of one trial."""
        return self.workers * self.gpu_share

    def unused_gpus(self, gpus: float) -> str | None:
        """Say that trials train on CPUs although there are ``gpus``; None where there are none or they are used."""
        if self.gpus_per_worker or not gpus:
            return None
        return f"trials train on the CPU; to use the GPU{'s' * (gpus > 1)}: --set resources.gpus_per_worker=1"

    @property
    def hang_seconds(self) -> float | None:
        return None if self.hang_limit is None else seconds(self.hang_limit)

    @property
    def seconds_between_losses(self) -> float | None:
        """Expected time until a machine of the trial is lost, if each worker has one of its own."""
        return None if self.preemptions_per_hour is None else 3600.0 / (self.preemptions_per_hour * self.workers)

    @property
    def devices(self) -> float:
        """Priced devices of one trial: its GPUs, or its CPUs if it has none."""
        return self.gpus or float(self.workers * self.cpus_per_worker)


class Budget(Frozen):
    """Limits of a sweep, which ends at the first one reached. A grid needs none. ``trials`` excludes replicates.

    ``price_per_device_hour`` is that of a GPU, or of a CPU if trials have no GPU, in the currency of ``money``. With
    ``prices`` it is taken from a CSV file when the run starts, which then keeps it: that of ``resources.accelerator``
    on the ``market`` (null: on_demand).
    """

    trials: int | None = Field(None, ge=1)  # failed ones included
    wall: Duration | None = None  # of the program, summed over all its sessions
    gpu_hours: float | None = Field(None, gt=0)
    money: float | None = Field(None, gt=0)
    price_per_device_hour: float | None = Field(None, gt=0)
    prices: str | None = Field(None, min_length=1)
    market: Market | None = None

    @model_validator(mode="after")
    def _priced(self) -> Budget:
        if self.money is not None and self.price_per_device_hour is None and self.prices is None:
            raise fail("budget.money", "needs budget.price_per_device_hour or budget.prices")
        if self.prices is not None and self.price_per_device_hour is not None:
            raise fail("budget.prices", "budget.price_per_device_hour is given too; set one of them to null")
        if self.market is not None and self.prices is None:
            raise fail("budget.market", "has no effect: budget.prices is not set")
        return self

    def limits(self) -> dict[str, float]:
        """Return the limits that are set, except ``trials``: wall in seconds, gpu_hours, money."""
        wall = None if self.wall is None else seconds(self.wall)
        found = {"wall": wall, "gpu_hours": self.gpu_hours, "money": self.money}
        return {name: limit for name, limit in found.items() if limit is not None}


class Replicates(Frozen):
    """Replicates of the best trials with other seeds, run after the search.

    ``seeds`` is the number for each trial, the original seed included. ``of``: trials on the front; ``near`` adds those
    at most so many points of accuracy below it. The fraction ``share`` of wall, GPU-hours and money is kept for them.
    """

    seeds: int = Field(3, ge=2)
    of: Literal["front"] = "front"
    near: float = Field(0.0, ge=0)
    share: float | None = Field(None, gt=0, lt=1)

    @property
    def share_kept(self) -> float:
        return self.share or DEFAULT_SHARE


def count_slots(available: dict[str, float], resources: Resources, *, grows: bool = False) -> int:
    """Return how many trials run at a time: ``resources.slots``, but at most as many as fit into ``available``.

    ``available`` counts CPUs, GPUs and bytes of memory (if it does not say, there is enough). A cluster that
    ``grows`` may start machines for all ``resources.slots``. Raises UserError if no trial fits.
    """
    if grows and resources.slots:
        return resources.slots
    cpus = resources.workers * resources.cpus_per_worker
    fitting = math.floor(available.get("CPU", 0.0) / cpus)
    if resources.gpus:
        fitting = min(fitting, _fitting_on_gpus(available.get("GPU", 0.0), resources))
    if resources.memory_per_worker and "memory" in available:
        fitting = min(
            fitting, math.floor(available["memory"] / (resources.memory_per_worker * GIB * resources.workers))
        )
    if fitting < 1:
        has = f"{counted(available.get('CPU', 0.0), 'CPU')} and {counted(available.get('GPU', 0.0), 'GPU')}"
        hint = "; for a cluster that starts machines on demand, set resources.slots" if grows else ""
        needs = f"{counted(cpus, 'CPU')} and {counted(resources.gpus, 'GPU')}"
        if resources.memory_per_worker and "memory" in available:
            needs += f" and {resources.memory_per_worker * resources.workers:g} GiB"
            has += f" and {available['memory'] / GIB:.1f} GiB"
        has += f" on machines with GPUs of the kind {resources.accelerator}" if resources.accelerator else ""
        raise UserError(f"resources: a trial needs {needs} at once, but there are {has}{hint}")
    return min(fitting, resources.slots or fitting)


def _fitting_on_gpus(gpus: float, resources: Resources) -> int:
    """Return how many trials fit on ``gpus`` at a time; a trial's fraction of a GPU is always on one GPU."""
    if resources.gpus < 1:
        return math.floor(gpus) * math.floor(1 / resources.gpus + 1e-9)
    return math.floor(gpus / resources.gpus)
