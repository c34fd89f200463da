"""Compute how large a trial's checkpoint files are, without training it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from st3sweep.networks import build_model, flops
from st3sweep.sparse.method import prunable
from st3sweep.sparse.methods import build_method
from st3sweep.sparse.methods.fixed_mask import FixedMask
from st3sweep.training.optim import build_optimizer
from st3sweep.training.state import State
from st3sweep.training.world import World
from st3sweep.trial.settings import TrialSettings


@dataclass(frozen=True)
class CheckpointSize:
    """Bytes of a trial's two checkpoints; ``last`` has a predecessor of the same size."""

    last: int  # parameters, momentum, masks, the method's state
    best: int  # parameters and the method's state

    @property
    def all(self) -> int:
        """Return the bytes of last, previous and best."""
        return 2 * self.last + self.best


def checkpoint_size(spec: TrialSettings, classes: int, channels: int) -> CheckpointSize:
    """Return the size of the checkpoints of ``spec`` for images of ``classes`` and ``channels``.

    Serialises the state of a model at its first step. It lacks what grows with the epochs (their records, some 300
    bytes each) and what a method adds while it trains.
    """
    model = build_model(spec.model, classes, channels)
    weights = list(prunable(model).values())
    size = spec.data.image_size
    costs = flops.layer_costs(model, (channels, size, size))
    optimizer = build_optimizer(model, weights, spec)
    if spec.optim.momentum:
        for parameter in model.parameters():
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    state = State(
        model=model, forward=model, weights=weights, optimizer=optimizer, costs=costs, steps_per_epoch=1,
        method=build_method(spec, weights, flops.macs_per_weight(costs)),
        loss_sum=torch.zeros(()),
        masks=[torch.ones_like(weight, dtype=torch.bool) for weight in weights],
    )  # fmt: skip
    found = _sizes(state)
    if spec.train.finetune_epochs:
        state.method = FixedMask(weights, 0.0)
        fixed = _sizes(state)
        return CheckpointSize(max(found.last, fixed.last), max(found.best, fixed.best))
    return found


def _sizes(state: State) -> CheckpointSize:
    best = {"model": state.model.state_dict(), "method": state.method.state_dict()}
    return CheckpointSize(_serialised(state.to_checkpoint(World())), _serialised(best))


class _Counter:
    """A file that keeps nothing of what is written to it but the number of bytes."""

    def __init__(self) -> None:
        self.bytes = 0

    def write(self, data: Any) -> int:
        count = memoryview(data).nbytes
        self.bytes += count
        return count

    def flush(self) -> None:
        """Do nothing."""


def _serialised(content: dict[str, Any]) -> int:
    counter = _Counter()
    torch.save(content, counter)  # type: ignore[arg-type]
    return counter.bytes
