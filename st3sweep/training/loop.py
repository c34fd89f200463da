"""Train one trial: ``fit`` reads from top to bottom what happens between a spec and its result."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from st3sweep import cost, data
from st3sweep.data.batches import eval_batches, steps_per_epoch, train_batches
from st3sweep.data.images import Images
from st3sweep.models import build_model
from st3sweep.sparse.masks import nonzeros
from st3sweep.sparse.method import Method, harden, prunable, sparse_weights
from st3sweep.sparse.methods import build_method
from st3sweep.sparse.methods.fixed_mask import FixedMask
from st3sweep.spec import TrialSpec
from st3sweep.training import checkpoint
from st3sweep.training.evaluate import evaluate
from st3sweep.training.optim import (
    build_optimizer,
    classification_loss,
    learning_rate,
    optimisation_step,
    weight_decay,
)
from st3sweep.training.world import World

EpochRecord = dict[str, Any]  # the columns of results.EPOCHS, the trial's number apart
LAST, BEST = "last.ckpt", "best.ckpt"


class Diverged(Exception):
    """The loss is not a number any more."""


@dataclass
class State:
    """Everything of a trial that outlives an epoch; ``to_checkpoint`` and ``restore`` are its two ends."""

    model: nn.Module
    names: list[str]
    weights: list[nn.Parameter]
    method: Method
    optimizer: torch.optim.Optimizer
    costs: list[cost.LayerCost]
    steps_per_epoch: int
    epoch: int = 0  # epochs completed
    seconds: float = 0.0
    history: list[EpochRecord] = field(default_factory=list)
    best: dict[str, Any] | None = None  # record and layers of the best epoch at the target sparsity

    def to_checkpoint(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "method": self.method.state_dict(),
            "epoch": self.epoch,
            "seconds": self.seconds,
            "history": self.history,
            "best": self.best,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if "masks" in saved["method"]:  # saved while fine-tuning
            self.method = FixedMask(self.weights, 0.0)
        self.method.load_state_dict(saved["method"])
        self.epoch, self.seconds = saved["epoch"], saved["seconds"]
        self.history, self.best = saved["history"], saved["best"]


def fit(
    spec: TrialSpec,
    world: World,
    report: Callable[[EpochRecord], bool],
    folder: Path,
    splits: data.Splits | None = None,
) -> dict[str, Any]:
    """Train ``spec`` and return its result: the columns of ``results.TRIALS`` that training knows, and ``layers``.

    ``report`` gets each epoch's record, reduced over ranks, on every rank; a true answer from rank 0 ends the training
    after that epoch (``status`` is then ``stopped``). Checkpoints go to ``folder``, which all ranks must reach; a whole
    one that lies there is resumed, and the records of its epochs are reported again first. The test set is read once,
    at the end, with the weights of the best epoch. Raises Diverged when the loss is not finite.
    """
    splits = splits or data.load(spec.data)
    state = _start(spec, world, splits)
    saved, refused = checkpoint.load_latest(folder / LAST, world.device)
    for message in refused:
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    if saved is not None:
        state.restore(saved)
        for record in state.history:
            report(record)
    total_epochs = spec.train.epochs + spec.train.finetune_epochs
    while state.epoch < total_epochs:
        record = _epoch(state, spec, world, splits)
        is_best = record["at_target"] and (state.best is None or record["val_top1"] > state.best["record"]["val_top1"])
        if is_best:
            state.best = {"record": record, "layers": _layers(state)}
        if world.is_main:
            folder.mkdir(parents=True, exist_ok=True)
            if is_best:
                # Before the last one: a crash in between repeats the epoch and comes to the same two files.
                best = {"model": state.model.state_dict(), "method": state.method.state_dict()}
                checkpoint.save(folder / BEST, best, state.method)
            # A refused file is overwritten: kept, it would take the place of the whole one before it.
            checkpoint.save(folder / LAST, state.to_checkpoint(), state.method, keep_previous=not refused)
            refused = []
        if world.from_main(report(record)) and state.epoch < total_epochs:
            return {"status": "stopped", "epochs": state.epoch, "wall_seconds": state.seconds}
    return _result(state, spec, world, splits, folder)


def _start(spec: TrialSpec, world: World, splits: data.Splits) -> State:
    torch.manual_seed(spec.seed)
    channels, size, _ = splits.image_shape()
    model = build_model(spec.model, splits.num_classes, channels, spec.train.bn_momentum)
    costs = cost.layer_costs(model, (channels, size, size))
    model.to(world.device)
    if world.device.type == "cuda":  # on CPU its backward corrupts memory for some widths (docs/LOG.md)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    named = prunable(model)
    weights = list(named.values())
    return State(
        model=model,
        names=[name.removesuffix(".weight") for name in named],
        weights=weights,
        method=build_method(spec.sparsity, weights, spec.train.epochs),
        optimizer=build_optimizer(model, weights, spec),
        costs=costs,
        steps_per_epoch=steps_per_epoch(len(splits.train), spec.train.batch_size),
    )


def _epoch(state: State, spec: TrialSpec, world: World, splits: data.Splits) -> EpochRecord:
    """One epoch of training and its validation; the record is the same on all ranks."""
    started = time.perf_counter()
    if state.epoch == spec.train.epochs:  # the first of fine-tuning: the mask is fixed from here on
        harden(state.weights, state.method)
        state.method = FixedMask(state.weights, state.method.ratio)
    # Nothing random outlives an epoch, so that a resumed run needs no generator's state.
    torch.manual_seed(spec.seed * 1_000_003 + state.epoch)
    mean_loss, lr, decay = _train_epoch(state, spec, world, splits)
    # Running statistics are linear in the batches': averaging them once an epoch is averaging them at every step.
    world.mean_(b for b in state.model.buffers() if b.is_floating_point())
    train_loss = float(mean_loss)
    if not math.isfinite(train_loss):
        raise Diverged(f"the training loss is {train_loss} in epoch {state.epoch + 1}")
    val_loss, val_top1 = _evaluate(state, spec, world, splits, splits.validation)
    state.epoch += 1
    state.seconds += time.perf_counter() - started
    densities = _densities(state)
    record = {
        "epoch": state.epoch,
        "progress": min(1.0, state.epoch / spec.train.epochs),
        "ratio": state.method.ratio,
        "sparsity": _sparsity(state, densities),
        "gflops": cost.gflops(state.costs, densities),
        "lr": lr,
        "weight_decay": decay,
        "train_loss": train_loss,
        "val_loss": val_loss,
        "val_top1": val_top1,
        "at_target": state.method.at_target,
        "seconds": time.perf_counter() - started,
    }
    state.history.append(record)
    return record


def _train_epoch(state: State, spec: TrialSpec, world: World, splits: data.Splits) -> tuple[Tensor, float, float]:
    """Mean loss over the epoch and the ranks, and the last step's learning rate and weight decay."""
    spe = state.steps_per_epoch
    total_steps = spec.train.epochs * spe
    loss_sum = torch.zeros((), device=world.device)
    lr = decay = 0.0
    batches = train_batches(
        splits,
        spec.data,
        seed=spec.seed,
        epoch=state.epoch,
        batch_size=spec.train.batch_size,
        rank=world.rank,
        size=world.size,
        device=world.device,
    )
    state.model.train()
    for index, (x, y) in enumerate(batches):
        step = state.epoch * spe + index
        lr = learning_rate(spec, step, total_steps)
        decay = weight_decay(spec, step, total_steps, state.method.ratio)
        for group in state.optimizer.param_groups:
            group["lr"] = lr
        state.optimizer.param_groups[0]["weight_decay"] = decay
        loss, _norm = optimisation_step(
            state.model,
            state.weights,
            state.method,
            state.optimizer,
            classification_loss(
                state.model, x, y, label_smoothing=spec.train.label_smoothing, precision=spec.train.precision
            ),
            progress=min(1.0, (step + 1) / total_steps),
            clip_norm=spec.optim.clip_norm,
            world=world,
        )
        loss_sum += loss
    world.mean_([loss_sum])
    return loss_sum / spe, lr, decay


def _evaluate(state: State, spec: TrialSpec, world: World, splits: data.Splits, images: Images) -> tuple[float, float]:
    batches = eval_batches(images, splits, batch_size=512, rank=world.rank, size=world.size, device=world.device)
    return evaluate(state.model, state.weights, state.method, batches, precision=spec.train.precision, world=world)


def _densities(state: State) -> list[float]:
    """Density of each layer, its zeros counted in θ̂."""
    with sparse_weights(state.weights, state.method):
        counts = nonzeros(state.weights)
    return [count / weight.numel() for count, weight in zip(counts, state.weights, strict=True)]


def _sparsity(state: State, densities: list[float]) -> float:
    alive = sum(density * layer.numel for density, layer in zip(densities, state.costs, strict=True))
    return 1.0 - alive / sum(layer.numel for layer in state.costs)


def _layers(state: State) -> list[dict[str, Any]]:
    """The columns of ``results.LAYERS`` for the weights as they are."""
    densities = _densities(state)
    thresholds = state.method.thresholds() or [None] * len(densities)
    return [
        {
            "layer": layer.name,
            "position": position,
            "shape": "x".join(map(str, layer.shape)),
            "numel": layer.numel,
            "density": density,
            "macs_dense": layer.macs,
            "macs": layer.macs * density,
            "threshold": threshold,
        }
        for position, (layer, density, threshold) in enumerate(zip(state.costs, densities, thresholds, strict=True))
    ]


def _result(state: State, spec: TrialSpec, world: World, splits: data.Splits, folder: Path) -> dict[str, Any]:
    """The trial's result, with the test accuracy of the best epoch's weights."""
    assert state.best is not None, "every trial ends at its target sparsity"
    started = time.perf_counter()
    test_top1 = None
    if splits.test is not None:
        world.from_main(None)  # rank 0 has written the file by now
        best = checkpoint.load(folder / BEST, world.device)
        state.model.load_state_dict(best["model"])
        if "masks" in best["method"]:
            state.method = FixedMask(state.weights, 0.0)
        else:
            state.method = build_method(spec.sparsity, state.weights, spec.train.epochs)
        state.method.load_state_dict(best["method"])
        _, test_top1 = _evaluate(state, spec, world, splits, splits.test)
    record = state.best["record"]
    return {
        "status": "finished",
        "sparsity": record["sparsity"],
        "val_top1": record["val_top1"],
        "test_top1": test_top1,
        "gflops": record["gflops"],
        "gflops_dense": cost.gflops(state.costs),
        "best_epoch": record["epoch"],
        "epochs": state.epoch,
        "wall_seconds": state.seconds + time.perf_counter() - started,
        "layers": state.best["layers"],
    }
