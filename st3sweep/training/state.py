"""``State``: all state of a trial between steps, saved to a checkpoint and restored bit by bit."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from st3sweep.networks import flops
from st3sweep.sparse.method import Method
from st3sweep.sparse.methods import restore_method
from st3sweep.training.sgd import SGD
from st3sweep.training.world import World
from st3sweep.trial.settings import TrialSettings

EpochRecord = dict[str, Any]  # the columns of runs.tables.EPOCHS, except the trial's number


@dataclass
class State:
    """State of a trial between two steps; ``loss_sum`` and, within an epoch, batch-norm statistics differ by rank."""

    model: nn.Module
    forward: Callable[[Tensor], Tensor]  # the model in training: itself, or compiled
    weights: list[nn.Parameter]
    method: Method
    optimizer: SGD
    costs: list[flops.LayerCost]
    steps_per_epoch: int
    loss_sum: Tensor  # 0-d: of the epoch's completed steps
    step: int = 0  # completed steps of the epoch
    passes: int = 0  # forward and backward, in these steps
    epoch: int = 0  # epochs completed
    seconds: float = 0.0  # of all completed epochs
    epoch_seconds: float = 0.0  # of the unfinished epoch
    gflops: float = 0.0  # of one image, after the last completed epoch, or before the first
    training_gflops: float = 0.0  # of all completed epochs
    history: list[EpochRecord] = field(default_factory=list)
    masks: list[Tensor] | None = None  # after the last completed epoch
    best: dict[str, Any] | None = None  # record and layers of the best epoch at the target sparsity
    ticked: float = field(default_factory=time.perf_counter)

    def tick(self) -> None:
        """Add the seconds since the last tick to the unfinished epoch."""
        now = time.perf_counter()
        self.epoch_seconds += now - self.ticked
        self.ticked = now

    def charge(self, gflops: float, epochs: int, batch_size: int) -> None:
        """Add the cost of an epoch's passes, at the mean of the model's ``gflops`` before and after it.

        ``epochs`` are those of the training, without fine-tuning.
        """
        dense, share = flops.gflops(self.costs), self.method.dense_gradients(epochs * self.steps_per_epoch)
        of_image = dense if self.method.dense_passes else (self.gflops + gflops) / 2
        self.training_gflops += flops.training_gflops([of_image], dense, self.passes * batch_size, share)
        self.gflops, self.passes = gflops, 0

    def to_checkpoint(self, world: World) -> dict[str, Any]:
        """Return the checkpoint's content. All ranks must call it; it is complete on rank 0 only, which writes it."""
        self.tick()
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "method": self.method.state_dict(),
            "ranks": world.gather(self._of_this_rank()) if self.step else [],
            "step": self.step,
            "passes": self.passes,
            "epoch": self.epoch,
            "seconds": self.seconds,
            "epoch_seconds": self.epoch_seconds,
            "gflops": self.gflops,
            "training_gflops": self.training_gflops,
            "history": self.history,
            "masks": None if self.masks is None else [_packed(mask) for mask in self.masks],
            "best": self.best,
        }

    def _of_this_rank(self) -> dict[str, Any]:
        device = self.loss_sum.device
        return {
            "loss_sum": self.loss_sum.cpu(),
            "buffers": {name: buffer.cpu() for name, buffer in self.model.named_buffers()},
            "generator": torch.get_rng_state(),
            "cuda_generator": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }

    def restore(self, saved: dict[str, Any], spec: TrialSettings, rank: int) -> None:
        """Restore a checkpoint, bit by bit with as many ranks as before.

        With another number, within an epoch, rank r takes over the state of rank r modulo the former number.
        """
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.method = restore_method(spec, self.weights, flops.macs_per_weight(self.costs), saved["method"])
        self.step, self.passes, self.epoch = saved["step"], saved["passes"], saved["epoch"]
        self.seconds, self.epoch_seconds = saved["seconds"], saved["epoch_seconds"]
        self.gflops, self.training_gflops = saved["gflops"], saved["training_gflops"]
        self.history, self.best = saved["history"], saved["best"]
        if saved["masks"] is not None:
            self.masks = [_unpacked(bits, weight) for bits, weight in zip(saved["masks"], self.weights, strict=True)]
        if saved["ranks"]:
            self._restore_rank(saved["ranks"][rank % len(saved["ranks"])])

    def _restore_rank(self, saved: dict[str, Any]) -> None:
        self.loss_sum.copy_(saved["loss_sum"])
        for name, buffer in self.model.named_buffers():
            buffer.copy_(saved["buffers"][name])
        torch.set_rng_state(saved["generator"].cpu())
        if saved["cuda_generator"] is not None and self.loss_sum.is_cuda:
            torch.cuda.set_rng_state(saved["cuda_generator"].cpu(), self.loss_sum.device)


def _packed(mask: Tensor) -> Tensor:
    """Pack a mask, eight entries to a byte, in the order of ``flatten``."""
    return torch.from_numpy(np.packbits(mask.flatten().cpu().numpy()))


def _unpacked(bits: Tensor, like: Tensor) -> Tensor:
    flags = np.unpackbits(bits.cpu().numpy(), count=like.numel()).astype(bool)
    return torch.from_numpy(flags).view(like.shape).to(like.device)
