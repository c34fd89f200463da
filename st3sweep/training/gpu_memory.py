"""Memory of a GPU that trials share: how much a trial takes, how many fit, and what each process may allocate."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

import torch

from st3sweep import data
from st3sweep.data import Splits
from st3sweep.data.batches import eval_batches
from st3sweep.training.batches import evaluation_batch
from st3sweep.training.evaluate import evaluate
from st3sweep.training.graph import EAGER_FIRST, Steps, own_stream
from st3sweep.training.loop import start
from st3sweep.training.numerics import numerics, with_precision_of
from st3sweep.training.step import TrainingStep
from st3sweep.training.world import World
from st3sweep.trial.settings import TrialSettings

MOST_TRIALS = 8  # on one GPU, by default: more were never measured
USED = 0.95  # of a GPU's memory, by all trials together
_CONTEXT_BYTES = 1 << 29  # of a process on a GPU, its code and libraries, which the allocator does not count; estimated


class Memory(NamedTuple):
    """Bytes: what a process with a trial takes of a GPU, and what the GPU has."""

    trial: int
    total: int

    def __str__(self) -> str:
        return f"{self.trial / 1e9:.1f} of a GPU's {self.total / 1e9:.1f} GB"


def trials_that_fit(memory: Memory) -> int:
    """Return how many trials of this ``memory`` a GPU holds: at least 1, at most MOST_TRIALS."""
    return max(1, min(MOST_TRIALS, int(USED * memory.total) // memory.trial))


def measured(trials: Iterable[TrialSettings], device: torch.device) -> Memory:
    """Return the memory of the one of ``trials`` that needs most, on a GPU that no other process uses.

    Trains some steps and evaluates a batch of each. What others use counts as the trial's.
    """
    most = 0
    for spec in trials:
        copies = rehearse(spec, device)
        torch.cuda.synchronize(device)
        free, total = torch.cuda.mem_get_info(device)
        most = max(most, total - free + copies)
        torch.cuda.empty_cache()
    return Memory(most, total)


def rehearse(spec: TrialSettings, device: torch.device, splits: Splits | None = None) -> int:
    """Do once all that takes memory in a trial, but a checkpoint, whose bytes are returned: it copies them first."""
    world = World(device=device)
    spec, splits = with_precision_of(device, spec), splits or data.load(spec.data)
    with numerics(spec, device), own_stream(spec, device):
        state = start(spec, world, splits)
        steps = Steps(TrainingStep(state, spec, world, splits), spec, world)
        steps.step.begin_epoch(0)
        state.model.train()
        for inputs in islice(steps.step.batches.inputs(spec.seed, 0), EAGER_FIRST + 2):
            state.optimizer.set_rates(0.0, state.optimizer.param_groups[0]["weight_decay"])
            steps.take(inputs, 0.5)
        batches = eval_batches(
            splits.validation,
            splits,
            batch_size=evaluation_batch(spec.data.image_size, device),
            rank=0,
            size=1,
            device=device,
        )
        evaluate(
            state.model, state.weights, state.method, islice(batches, 1), precision=spec.train.precision, world=world
        )
        momenta = [p for p in state.model.parameters() if p.requires_grad]
        tensors = [*state.model.state_dict().values(), *momenta]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def limit(share: float, device: torch.device) -> None:
    """Keep this process within its ``share`` of a GPU's memory: beyond it, this trial fails and no other."""
    if device.type == "cuda" and share < 1:
        _, total = torch.cuda.mem_get_info(device)
        torch.cuda.set_per_process_memory_fraction(allocatable(share, total), device)


def allocatable(share: float, total_bytes: int) -> float:
    """Return the fraction of the memory that torch may allocate in a process with a ``share``, its context apart."""
    return max(share / 2, share - _CONTEXT_BYTES / total_bytes)


def is_usable(device: torch.device) -> bool:
    """Return whether this process can still use the device: after some errors of a GPU every later call fails."""
    if device.type != "cuda":
        return True
    try:
        torch.cuda.synchronize(device)
    except RuntimeError:
        return False
    return True
