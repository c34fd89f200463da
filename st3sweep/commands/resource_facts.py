"""Describe in a plan what a trial may use, and how many trials run at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator

import torch

from st3sweep.data import DataError
from st3sweep.space.resources import Resources, count_slots
from st3sweep.space.sample_points import largest_trials
from st3sweep.space.space import Space
from st3sweep.util.errors import UserError
from st3sweep.util.text import counted


def resource_facts(space: Space) -> Iterator[tuple[str, str]]:
    """Yield name and text of each line of the plan."""
    resources = space.config.resources
    if unused := resources.unused_gpus(_gpus()):
        yield "GPU", unused
    if resources.trials_per_gpu == "auto":
        number, text = _trials_per_gpu(space)
        resources = resources.with_trials_per_gpu(number) if number else resources
        yield "GPU", f"shared by {text}"
    yield "resources", f"{_resources(resources)}; {_slots(resources)}"


def _trials_per_gpu(space: Space) -> tuple[int | None, str]:
    """Return how many trials this machine's GPU holds, and in words; None where it has no GPU."""
    if not _gpus():
        return None, "as many trials as its memory holds: decided on the cluster, since this machine has no GPU"
    from st3sweep.training.gpu_memory import measured, trials_that_fit

    try:
        memory = measured(largest_trials(space), torch.device("cuda"))
    except (DataError, RuntimeError) as error:
        return None, f"as many trials as its memory holds, which cannot be measured here: {str(error).splitlines()[0]}"
    number = trials_that_fit(memory)
    return number, f"{counted(number, 'trial')}: one takes {memory}"


def _gpu(resources: Resources) -> str:
    trials = resources.trials_per_gpu
    if trials == "auto":
        return "a share of a GPU"
    return f"1/{trials} GPU" if trials and trials > 1 else f"{resources.gpus_per_worker:g} GPU"


def _resources(resources: Resources) -> str:
    kind = f" of the kind {resources.accelerator}" if resources.accelerator else ""
    gpus = f" and {_gpu(resources)}{kind}" if resources.gpus_per_worker else ""
    memory = f" and {resources.memory_per_worker:g} GiB of memory" if resources.memory_per_worker else ""
    cpus = f"{counted(resources.cpus_per_worker, 'CPU')}{gpus}{memory}"
    text = f"{cpus} a trial" if resources.workers == 1 else f"{resources.workers} workers a trial, {cpus} each"
    lasting = resources.trials_per_process
    text += f"; new processes after {counted(lasting, 'trial')}" if lasting else ""
    return text + (f"; fails after {resources.hang_limit} without a report" if resources.hang_limit else "")


def _slots(resources: Resources) -> str:
    """Describe how many trials run at a time; unless set, how many fit on this machine."""
    if resources.slots:
        return f"{resources.slots} at a time"
    cpus, gpus = os.cpu_count() or 1, _gpus() if resources.gpus else 0
    here = f"this machine's {counted(cpus, 'CPU')}" + (f" and {counted(gpus, 'GPU')}" if resources.gpus else "")
    try:
        return f"{count_slots({'CPU': cpus, 'GPU': gpus}, resources)} at a time on {here}"
    except UserError:
        return f"as many at a time as a cluster holds; none fits on {here}"


def _gpus() -> int:
    return torch.cuda.device_count()
