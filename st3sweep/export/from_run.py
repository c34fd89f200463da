"""Export a finished trial's model: the best epoch's sparse weights θ̂ in a plain model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from st3sweep import data
from st3sweep.data.batches import eval_batches
from st3sweep.export.preprocessing import preprocessing
from st3sweep.networks import build_model, flops
from st3sweep.runs.bring import bring_models
from st3sweep.runs.finished_trial import finished_trial
from st3sweep.runs.folder import trial_folder
from st3sweep.runs.ledger import Trial
from st3sweep.sparse.method import Method, harden, prunable
from st3sweep.sparse.methods import restore_method
from st3sweep.training import checkpoint
from st3sweep.training.checkpoint import CheckpointError
from st3sweep.training.evaluate import evaluate
from st3sweep.training.saver import BEST
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.errors import UserError
from st3sweep.util.storage.local import Local


def export(run: Path, trial: int, *, allow_changed: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the hardened state_dict of trial ``trial`` of the run in folder ``run``, and the metadata of its file.

    It loads into the plain model, whose logits are then those of the evaluated model, bit by bit on the same device.
    The numbers in the metadata are those that the run recorded, not counted again; ``zeros`` is by layer. Raises
    UserError if there is no such trial, it has not finished, its checkpoint is absent or damaged, or the code of a
    plugin that it uses has changed, unless ``allow_changed``.
    """
    model, metadata = sparse_model(run, *finished_trial(run, trial, allow_changed=allow_changed))
    return model.state_dict(), metadata


def load_model(run: Path, trial: int, *, allow_changed: bool = False) -> nn.Module:
    """Return the hardened model of trial ``trial`` of the run in folder ``run``, on the CPU in evaluation mode.

    Raises UserError as ``export`` does.
    """
    return sparse_model(run, *finished_trial(run, trial, allow_changed=allow_changed))[0].eval()


def sparse_model(run: Path, stored: Trial, spec: TrialSettings) -> tuple[nn.Module, dict[str, Any]]:
    """Return the hardened model of a trial with a result, and the metadata of its file. Raises UserError."""
    folder = trial_folder(run, stored.number)
    path = folder / BEST
    bring_models(run, [stored.number])
    try:
        saved = checkpoint.load(Local(folder), BEST)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; {_instead(run, stored)}") from None
    except CheckpointError as error:
        raise UserError(str(error)) from None
    inputs = saved.get("input") or data.load(spec.data).input_facts()  # missing in older checkpoints
    model = build_model(spec.model, inputs["num_classes"], inputs["channels"])
    try:
        model.load_state_dict(saved["model"])
    except RuntimeError:
        raise UserError(
            f"{path}: not the checkpoint of this trial (its tensors do not fit {spec.model.label})"
        ) from None
    weights = list(prunable(model).values())
    costs = flops.layer_costs(model, (inputs["channels"], inputs["image_size"], inputs["image_size"]))
    harden(weights, restore_method(spec, weights, flops.macs_per_weight(costs), saved["method"]))
    about = {**_described(stored, spec), **inputs, "preprocessing": preprocessing(spec.data, inputs)}
    return model, {**about, "zeros": _recorded_zeros(stored)}


def _instead(run: Path, trial: Trial) -> str:
    """Say where the weights of a trial that has none in its run are, or how to train them again."""
    if source := trial.result.get("reused_from"):
        return f"this result was reused from {source}: export it there"
    removed = "the weights were removed (resources.checkpoints: front, or clean); train them again with: st3sweep"
    if trial.workers > 1:  # reproduce trains with one
        return f"{removed} train {trial_folder(run, trial.number) / 'config.yaml'}"
    return f"{removed} reproduce {run} {trial.number}"


def validation_top1(model: nn.Module, metadata: dict[str, Any], run: Path, trial: int) -> float:
    """Return the top-1 accuracy (percent) of ``model`` on the trial's validation images, normalised by ``metadata``."""
    _, spec = finished_trial(run, trial, allow_changed=True)  # whoever wrote the file has checked
    splits = replace(data.load(spec.data), mean=tuple(metadata["mean"]), std=tuple(metadata["std"]))
    batches = eval_batches(splits.validation, splits, batch_size=512, rank=0, size=1, device="cpu")
    return evaluate(model, [], Method(), batches, precision=metadata["precision"]).top1


def some_images(metadata: dict[str, Any], run: Path, trial: int, count: int = 8) -> Tensor | None:
    """Return up to ``count`` of the trial's validation images, normalised by ``metadata``; None without the data."""
    _, spec = finished_trial(run, trial, allow_changed=True)  # whoever writes the file has checked
    try:
        splits = replace(data.load(spec.data), mean=tuple(metadata["mean"]), std=tuple(metadata["std"]))
    except (UserError, OSError):
        return None
    batches = eval_batches(splits.validation, splits, batch_size=count, rank=0, size=1, device="cpu")
    return next((x for x, _ in batches), None)


def _described(trial: Trial, settings: TrialSettings) -> dict[str, Any]:
    """Return the metadata that describe a trial outside its run, without paths of the machine that trained it."""
    numbers = ("sparsity", "gflops", "gflops_dense", "val_top1", "test_top1")
    return {
        "model": settings.model.model_dump(mode="json"),
        "method": settings.sparsity.label,
        "dataset": settings.data.dataset,
        "precision": trial.result.get("precision", settings.train.precision),  # older results have none
        "digest": trial.digest,
        "seed": trial.seed,
        "epoch": int(trial.result["best_epoch"]),
        **{name: trial.result.get(name) for name in numbers},
    }


def _recorded_zeros(trial: Trial) -> dict[str, int]:
    layers = sorted(trial.layers, key=lambda layer: int(layer["position"]))
    return {layer["layer"]: layer["numel"] - round(layer["density"] * layer["numel"]) for layer in layers}
