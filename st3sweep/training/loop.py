"""Train one trial, from its settings to its result (``fit``)."""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from st3sweep import data
from st3sweep.data import Splits
from st3sweep.data.batches import steps_per_epoch
from st3sweep.networks import build_model, flops
from st3sweep.networks.pretrained import load_pretrained
from st3sweep.sparse.layer_stats import LayerStats, layer_stats, total
from st3sweep.sparse.method import Method, harden, prunable
from st3sweep.sparse.methods import build_method
from st3sweep.sparse.methods.fixed_mask import FixedMask
from st3sweep.sparse.stochastic import StochasticMethod, passes_of
from st3sweep.training.batches import evaluate_split
from st3sweep.training.columns import is_better, validation_columns
from st3sweep.training.final_test import final_result
from st3sweep.training.graph import Steps, eager_because, own_stream
from st3sweep.training.layout import fastest_layout
from st3sweep.training.numerics import numerics, with_precision_of
from st3sweep.training.optim import build_optimizer
from st3sweep.training.pilots import Pilots
from st3sweep.training.saver import Saver, load_last
from st3sweep.training.state import EpochRecord, State
from st3sweep.training.step import TrainingStep
from st3sweep.training.world import World
from st3sweep.trial.rates import learning_rate, weight_decay
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.errors import UserError
from st3sweep.util.storage.local import Local


class Diverged(Exception):
    """The training loss is no longer finite."""


def fit(
    spec: TrialSettings,
    world: World,
    report: Callable[[EpochRecord], bool],
    folder: Path,
    splits: data.Splits | None = None,
    *,
    checkpoint_seconds: float = 60.0,
    leave: Callable[[], bool] = lambda: False,
    seconds_between_losses: float | None = None,
) -> dict[str, Any]:
    """Train ``spec`` and return its result: ``val_loss``, ``layers`` and training's columns of ``runs.tables.TRIALS``.

    ``report`` gets each epoch's record, reduced over ranks, on every rank; if it returns true on rank 0, training stops
    after that epoch (``status`` is then ``stopped``). Checkpoints are written to ``folder``, which all ranks must
    reach: after every epoch, and within one when the last is ``checkpoint_seconds`` old. Training resumes from an
    intact checkpoint found there, after reporting the records of its epochs again. The test set is read once, at the
    end, with the weights of the best epoch. Raises Diverged when the loss is not finite, and Preempted, after saving,
    soon after ``leave`` returns true on rank 0, which asks it once a second. With ``seconds_between_losses`` of a
    machine the interval within an epoch follows from the last checkpoint's duration (``saver.best_interval``).
    """
    spec, splits = with_precision_of(world.device, spec), splits or data.load(spec.data)
    with numerics(spec, world.device) as precision, own_stream(spec, world.device):
        saving = (checkpoint_seconds, leave, seconds_between_losses)
        return {**_fit(spec, world, report, folder, splits, *saving), "precision": precision}


def _fit(
    spec: TrialSettings,
    world: World,
    report: Callable[[EpochRecord], bool],
    folder: Path,
    splits: data.Splits,
    checkpoint_seconds: float,
    leave: Callable[[], bool],
    seconds_between_losses: float | None,
) -> dict[str, Any]:
    state = start(spec, world, splits)
    if world.is_main:
        folder.mkdir(parents=True, exist_ok=True)
    storage = Local(folder)
    saved, refused = load_last(storage, world)
    for message in refused:
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    if saved is not None:
        state.restore(saved, spec, world.rank)
        for record in state.history:
            report(record)
    else:
        pilots = Pilots(partial(fit, checkpoint_seconds=checkpoint_seconds, leave=leave), world, folder, splits)
        pilots.close(state.method.prepare(spec, state.weights, state.steps_per_epoch, pilots))
        state.seconds, state.training_gflops = pilots.seconds, pilots.training_gflops
        layers, _ = layer_stats(state.weights, state.method, None)
        state.gflops = flops.gflops(state.costs, [layer.density for layer in layers])
    # Overwrite a damaged file: kept as the previous one, it would replace the intact one.
    saver = Saver(
        storage,
        world,
        checkpoint_seconds,
        splits.input_facts(),
        keep_previous=not refused,
        leave=leave,
        seconds_between_losses=seconds_between_losses,
    )
    with saver:
        steps = Steps(TrainingStep(state, spec, world, splits), spec, world)
        return _train(state, spec, world, report, splits, saver, steps)


def _train(
    state: State,
    spec: TrialSettings,
    world: World,
    report: Callable[[EpochRecord], bool],
    splits: data.Splits,
    saver: Saver,
    steps: Steps,
) -> dict[str, Any]:
    """Train the remaining epochs and return the trial's result."""
    total_epochs = spec.total_epochs
    while state.epoch < total_epochs:
        record, layers = _epoch(state, spec, world, splits, saver, steps)
        if record["at_target"] and (state.best is None or is_better(record, state.best["record"], spec.model.metric)):
            state.best = {"record": record, "layers": _layer_rows(state, layers)}
            # Before LAST: a crash in between repeats the end of the epoch and writes the same two files.
            saver.save_best(state)
        saver.save(state)
        if world.broadcast(report(record)) and state.epoch < total_epochs:
            spent = {"training_gflops": state.training_gflops, "wall_seconds": state.seconds}
            return {"status": "stopped", "epochs": state.epoch, **spent}
    return final_result(state, spec, world, splits, saver)


def start(spec: TrialSettings, world: World, splits: Splits) -> State:
    """Return a trial's state before its first step. Raises UserError where ``spec`` and the model are incompatible."""
    torch.manual_seed(spec.seed)
    channels, size, _ = splits.image_shape()
    model = build_model(spec.model, splits.num_classes, channels, spec.train.bn_momentum)
    load_pretrained(model, spec.model)
    costs = flops.layer_costs(model, (channels, size, size))
    model.to(world.device)
    model.to(memory_format=fastest_layout(model, world.device))  # type: ignore[call-overload]
    _check_batch(model, spec, world, (channels, size, size))
    weights = list(prunable(model).values())
    method = build_method(spec, weights, flops.macs_per_weight(costs))
    return State(
        model=model,
        forward=_forward(model, spec, world, method),
        weights=weights,
        method=method,
        optimizer=build_optimizer(model, weights, spec),
        costs=costs,
        steps_per_epoch=steps_per_epoch(len(splits.train), spec.train.batch_size),
        loss_sum=torch.zeros((), device=world.device),
    )


def _check_batch(model: nn.Module, spec: TrialSettings, world: World, shape: tuple[int, int, int]) -> None:
    """Raise UserError where a batch of one image a worker leaves a batch norm a single value per channel."""
    if spec.train.batch_size > world.size:
        return
    try:
        with torch.no_grad():
            copy.deepcopy(model).train()(torch.zeros(1, *shape, device=world.device))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        reason = "1 image a worker gives a batch norm one value per channel, of which there is no deviation"
        raise UserError(f"train.batch_size: {spec.train.batch_size}: {reason}") from None


def _forward(model: nn.Module, spec: TrialSettings, world: World, method: Method) -> Callable[[Tensor], Tensor]:
    """Return ``model``, compiled if the spec says so, for training only: its batches all have one shape.

    Compiled code uses channels last whatever the model does: raises UserError where ``fastest_layout`` finds it unsafe.
    """
    if not spec.train.compile:
        return model
    if world.device.type == "cpu" and fastest_layout(model, world.device) is not torch.channels_last:
        raise UserError("train.compile: not on a CPU for this model: its 1x1 convolutions would overrun memory")
    torch.compiler.reset()  # drops code compiled for earlier trials of this process
    # "reduce-overhead" records CUDA graphs of its own, which cannot be part of one of the whole step. Exchanging θ and
    # θ̂ in place keeps the addresses that both need.
    alone = world.device.type == "cuda" and (spec.train.graph == "off" or eager_because(spec, world, method))
    return torch.compile(model, dynamic=False, mode="reduce-overhead" if alone else None)


def _epoch(
    state: State, spec: TrialSettings, world: World, splits: data.Splits, saver: Saver, steps: Steps
) -> tuple[EpochRecord, list[LayerStats]]:
    """Train the rest of an epoch and validate; record and layers are the same on all ranks."""
    state.ticked = time.perf_counter()
    if state.step == 0:
        if state.epoch == spec.train.epochs:  # the first of fine-tuning: the mask is fixed from here on
            harden(state.weights, state.method)
            state.method = FixedMask(state.weights, state.method.scheduled_sparsity)
            steps.new_method()
        # Random numbers of an epoch (dropout) are a function of its number: no generator state carries over.
        torch.manual_seed((spec.seed * 1_000_003 + state.epoch) * 1_009 + world.rank)
        state.loss_sum.zero_()
    lr, decay = _train_epoch(state, spec, saver, steps)
    world.all_reduce_mean_([state.loss_sum])
    # Running statistics are linear in the batches': averaging them once an epoch equals averaging at every step.
    world.all_reduce_mean_(buffer for buffer in state.model.buffers() if buffer.is_floating_point())
    train_loss = float(state.loss_sum) / state.steps_per_epoch
    if not math.isfinite(train_loss):
        raise Diverged(f"the training loss is {train_loss} in epoch {state.epoch + 1}")
    if state.epoch + 1 == spec.train.epochs and isinstance(state.method, StochasticMethod):
        state.method.choose_mask(lambda: evaluate_split(state, spec, world, splits, splits.train).loss)
    validation = evaluate_split(state, spec, world, splits, splits.validation)
    layers, state.masks = layer_stats(state.weights, state.method, state.masks)
    network, densities = total(layers), [layer.density for layer in layers]
    state.epoch, state.step = state.epoch + 1, 0
    state.tick()
    progress = min(1.0, state.epoch / spec.train.epochs)
    record: EpochRecord = {
        "epoch": state.epoch,
        "progress": progress,
        "ramp_progress": spec.ramp_progress(progress),
        "ratio": state.method.scheduled_sparsity,
        "threshold": network.threshold,
        "sparsity": 1.0 - network.density,
        "gflops": flops.gflops(state.costs, densities),
        "gflops_final": flops.gflops(state.costs, state.method.projected_densities(state.weights) or densities),
        "lr": lr,
        "weight_decay": decay,
        "train_loss": train_loss,
        **validation_columns(validation, spec.model.metric),
        "at_target": state.method.at_target,
        "dead_channels": network.dead_channels,
        "flip_rate": network.flip_rate,
        "mismatch": network.mismatch,
        "seconds": state.epoch_seconds,
    }
    state.charge(record["gflops"], spec.train.epochs, spec.train.batch_size)
    state.seconds, state.epoch_seconds = state.seconds + state.epoch_seconds, 0.0
    state.history.append(record)
    return record, layers


def _train_epoch(state: State, spec: TrialSettings, saver: Saver, steps: Steps) -> tuple[float, float]:
    """Train the remaining steps of the epoch; returns the last one's learning rate and weight decay."""
    total_steps = spec.train.epochs * state.steps_per_epoch
    lr = decay = 0.0
    state.model.train()
    steps.step.begin_epoch(state.epoch)
    with closing(steps.step.batches.inputs(spec.seed, state.epoch, state.step)) as batches:
        for inputs in batches:
            step = state.epoch * state.steps_per_epoch + state.step
            lr = learning_rate(spec, step, total_steps)
            decay = weight_decay(spec, step, total_steps, state.method.share_of_target)
            state.optimizer.set_rates(lr, decay)
            state.passes += passes_of(state.method)
            steps.take(inputs, progress=min(1.0, (step + 1) / total_steps))
            state.step += 1
            if state.step < state.steps_per_epoch:
                saver.save_if_due(state)
    return lr, decay


def _layer_rows(state: State, layers: Sequence[LayerStats]) -> list[dict[str, Any]]:
    """Return the rows of ``runs.tables.LAYERS``."""
    return [
        {
            "layer": known.name,
            "position": position,
            "shape": "x".join(map(str, known.shape)),
            "numel": known.numel,
            "density": layer.density,
            "macs_dense": known.macs,
            "macs": known.macs * layer.density,
            "threshold": layer.threshold,
            "dead_channels": layer.dead_channels,
            "flip_rate": layer.flip_rate,
            "mismatch": layer.mismatch,
        }
        for position, (known, layer) in enumerate(zip(state.costs, layers, strict=True))
    ]
