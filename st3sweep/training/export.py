"""From a finished trial to a network that can be deployed: the best epoch's θ̂ in a plain network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError
from torch import Tensor, nn

from st3sweep import cost, data
from st3sweep.data import DataError
from st3sweep.data.batches import eval_batches
from st3sweep.errors import UserError
from st3sweep.models import build_model
from st3sweep.recipes import resolve
from st3sweep.results import read_table
from st3sweep.run_folder import trial_folder
from st3sweep.sparse.method import Method, harden, prunable
from st3sweep.sparse.methods import restore_method
from st3sweep.spec import TrialSpec
from st3sweep.training import checkpoint
from st3sweep.training.checkpoint import CheckpointError
from st3sweep.training.evaluate import evaluate
from st3sweep.training.loop import BEST
from st3sweep.training.model_file import input_of


def export(run: Path, trial: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state_dict of trial ``trial`` of the run in folder ``run``, hardened, and the metadata of its file.

    It loads into the plain network, whose logits are then those of the network that was evaluated, bit by bit on the
    same device. The numbers in the metadata are those of the run's tables; ``zeros`` is by layer, nothing is counted
    here. Raises UserError if there is no such trial, it has not finished, or its checkpoint is absent or damaged.
    """
    row, spec = _finished(run, trial)
    path = trial_folder(run, trial) / BEST
    try:
        saved = checkpoint.load(path)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; without it there are no weights to export") from None
    except CheckpointError as error:
        raise UserError(str(error)) from None
    inputs = saved.get("input") or input_of(_data(spec))  # checkpoints did not always say
    model = build_model(spec.model, inputs["num_classes"], inputs["channels"])
    try:
        model.load_state_dict(saved["model"])
    except RuntimeError:
        raise UserError(
            f"{path}: not the checkpoint of this trial (its tensors do not fit {spec.model.name})"
        ) from None
    weights = list(prunable(model).values())
    costs = cost.layer_costs(model, (inputs["channels"], inputs["image_size"], inputs["image_size"]))
    harden(weights, restore_method(spec, weights, cost.uses_per_weight(costs), saved["method"]))
    return model.state_dict(), {**_described(row, spec), **inputs, "zeros": _recorded_zeros(run, trial)}


def validation_top1(model: nn.Module, metadata: dict[str, Any], run: Path, trial: int) -> float:
    """Percent of the trial's validation images that ``model`` gets right, normalised as ``metadata`` says."""
    _, spec = _finished(run, trial)
    splits = replace(_data(spec), mean=tuple(metadata["mean"]), std=tuple(metadata["std"]))
    batches = eval_batches(splits.validation, splits, batch_size=512, rank=0, size=1, device="cpu")
    return evaluate(model, [], Method(), batches, precision=spec.train.precision)[1]


def _finished(run: Path, trial: int) -> tuple[dict[str, Any], TrialSpec]:
    """Row and spec of a trial that has finished."""
    trials = read_table(run, "trials").set_index("trial", drop=False)
    if trial not in trials.index:
        last = f"its last is {trials.index.max()}" if len(trials) else "it has none"
        raise UserError(f"{run}: no trial {trial}; {last}")
    row: dict[str, Any] = {str(column): value for column, value in trials.loc[trial].items()}
    if row["status"] != "finished":
        raise UserError(f"{run}: trial {trial} is {row['status']}; only a finished one can be exported")
    try:
        return row, resolve(json.loads(row["spec"]))
    except ValidationError:
        raise UserError(f"{run}: trial {trial} is of another version of st3sweep; its fields have changed") from None


def _data(spec: TrialSpec) -> data.Splits:
    try:
        return data.load(spec.data)
    except DataError as error:
        raise UserError(f"{error.field}: {error.message}") from None


def _described(row: dict[str, Any], spec: TrialSpec) -> dict[str, Any]:
    """What a trial's row says that outlives its run; no path of the machine that trained it."""
    numbers = ("sparsity", "gflops", "gflops_dense", "val_top1", "test_top1")
    return {
        "model": spec.model.model_dump(mode="json"),
        "method": row["method"],
        "dataset": row["dataset"],
        "precision": spec.train.precision,
        "digest": row["digest"],
        "seed": int(row["seed"]),
        "epoch": int(row["best_epoch"]),
        **{name: None if pd.isna(row[name]) else float(row[name]) for name in numbers},
    }


def _recorded_zeros(run: Path, trial: int) -> dict[str, int]:
    layers = read_table(run, "layers")
    rows = layers[layers["trial"] == trial].sort_values("position").to_dict("records")
    return {row["layer"]: row["numel"] - round(row["density"] * row["numel"]) for row in rows}
