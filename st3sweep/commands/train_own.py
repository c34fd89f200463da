"""Train one trial from Python, with a user's own module and data: the twin of ``st3sweep train``."""

from __future__ import annotations

import copy
import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from st3sweep.commands.reading import Source, read_trial
from st3sweep.commands.train import train_one
from st3sweep.data.own import content_hash, register_dataset
from st3sweep.export.from_run import load_model
from st3sweep.reporting.console import say
from st3sweep.runs.ledger import Ledger
from st3sweep.runs.tables import is_own_metric, read_table
from st3sweep.training.components import register_components
from st3sweep.trial.code_hash import code_hash
from st3sweep.trial.data import DataConfig
from st3sweep.trial.metric import Metric
from st3sweep.trial.model import ModelConfig, register_model
from st3sweep.trial.registry import unregister
from st3sweep.util.errors import UserError
from st3sweep.util.yaml_lines import read

if TYPE_CHECKING:
    import pandas as pd

DATASET = "own"


@dataclass(frozen=True)
class TrainedTrial:
    """The result of ``train``: accuracies in percent, sparsity as a fraction, gflops per image; None where absent.

    ``status`` is ``finished`` or ``failed``, with a one-line ``error``. ``metrics`` has ``val_<name>`` and
    ``test_<name>`` of an own metric. ``epochs`` has a row an epoch. ``model`` is the sparse model of the best epoch,
    zeros in place, on the CPU in evaluation mode.
    """

    status: str
    error: str | None
    val_top1: float | None
    test_top1: float | None
    val_top5: float | None
    test_top5: float | None
    metrics: dict[str, float | None]
    sparsity: float | None
    gflops: float | None
    gflops_dense: float | None
    best_epoch: int | None
    epochs: pd.DataFrame
    model: nn.Module | None


def train(
    trial: Source,
    *,
    model: nn.Module | None = None,
    data: Any = None,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    metric: Metric | None = None,
    folder: Path | str | None = None,
    overrides: Mapping[str, str] | None = None,
    device: str = "auto",
    plugins: Sequence[str] = (),
    progress: bool = True,
) -> TrainedTrial:
    """Train one trial as ``api.train`` describes; ``overrides`` are texts."""
    register_components(plugins)
    settings = dict(read(trial).data)
    for part, given in (("model", model), ("data", data)):
        if given is not None and (settings.get(part) or {}).keys() & {"arch", "dataset"}:
            raise UserError(f"{part}: is given as an argument and in the trial; leave one out")
    if model is None and (loss is not None or metric is not None):
        name = "loss" if loss is not None else "metric"
        raise UserError(f"{name}: goes with model=; that of a registered model is given to register_model")
    with ExitStack() as until_trained:
        if data is not None:
            dataset = until_trained.enter_context(_registered_data(data))
            settings["data"] = {**(settings.get("data") or {}), "dataset": dataset}
        if model is not None:
            settings["model"] = {"arch": _registered_model(model, loss, metric)}
        checked = read_trial(settings if model is not None or data is not None else trial, overrides, plugins)
        if model is not None:
            _check_outputs(model, checked.data)
        tell = say if progress else lambda line: None  # noqa: ARG005
        where = Path(folder or until_trained.enter_context(tempfile.TemporaryDirectory()))
        train_one(checked, where, device, tell)
        return _result(where)


def _registered_model(
    model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor] | None = None, metric: Metric | None = None
) -> str:
    """Register a builder of copies of ``model`` under the name of its class, and return the name."""
    name, kept = type(model).__name__, copy.deepcopy(model).cpu()

    def build() -> nn.Module:
        return copy.deepcopy(kept)

    register_model(name, build, loss=loss, metric=metric)
    attached = ModelConfig.registered[name].attachments().values()
    digest = hashlib.sha256(code_hash(type(model), *attached).encode())
    for key, tensor in kept.state_dict().items():
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    ModelConfig.registered[name].code = digest.hexdigest()[:12]
    ModelConfig.registered[name].function = None  # no business of a sweep's workers
    return name


@contextmanager
def _registered_data(data: Any) -> Iterator[str]:
    """Register ``data`` as a dataset until the block ends, and yield its name."""

    def load() -> Any:
        return data

    register_dataset(DATASET, load)
    try:
        DataConfig.registered[DATASET].function = None
        if isinstance(data, tuple | list):  # else refused when it is loaded
            DataConfig.registered[DATASET].code = content_hash(data)
        yield DATASET
    finally:
        unregister(DataConfig, DATASET)


def _check_outputs(model: nn.Module, data: DataConfig) -> None:
    splits = data.load()
    probe = copy.deepcopy(model).cpu().eval()
    with torch.no_grad():
        outputs = probe(torch.zeros(1, *splits.image_shape()))
    if outputs.ndim != 2 or outputs.shape[1] < splits.num_classes:
        shape = f"{type(model).__name__} returns {tuple(outputs.shape)} for one image"
        raise UserError(f"model: {shape}; the data have {splits.num_classes} classes, which needs (1, at least that)")


def _result(folder: Path) -> TrainedTrial:
    done = Ledger(folder, read_only=True).trials[0]
    numbers = ("val_top1", "test_top1", "val_top5", "test_top5", "sparsity", "gflops", "gflops_dense", "best_epoch")
    return TrainedTrial(
        status=done.status,
        error=done.error,
        **{name: done.result.get(name) for name in numbers},
        metrics={name: value for name, value in done.result.items() if is_own_metric(name)},
        epochs=read_table(folder, "epochs"),
        model=load_model(folder, 0) if done.status == "finished" else None,
    )
