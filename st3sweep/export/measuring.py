"""Measure a finished trial's model on this machine: the size of its packed file, the time of an image.

The time is that of ``export --format sparse`` on one thread, batch 1: batch norms folded, dead channels removed, the
kernel of each layer measured, and its logits compared with torch's.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from torch import nn

from st3sweep.export.dead_channels import remove_dead_channels
from st3sweep.export.folding import fold_batch_norms, traced
from st3sweep.export.from_run import sparse_model
from st3sweep.export.model_file import save
from st3sweep.export.sparse_folder import save_sparse
from st3sweep.export.sparse_ops import sparse_ops
from st3sweep.export.timing import timed
from st3sweep.networks import build_model
from st3sweep.runs.ledger import Trial
from st3sweep.sparse_runtime.sparse_model import SparseModel
from st3sweep.trial.model import ModelConfig
from st3sweep.trial.recipes import resolve
from st3sweep.util.errors import UserError

Columns = dict[str, Any]


def measured(run: Path, trial: Trial, *, latency: bool = True) -> tuple[Columns, str]:
    """Return columns of ``tables.MEASURED`` for a finished trial, and why one is unknown, in a line; "" if none is.

    A model that the engine cannot run has no latency, so that a prediction is replaced by null. A trial without weights
    keeps what is known of it. No error of the model's code is raised.
    """
    try:
        model, metadata = sparse_model(run, trial, resolve(trial.spec))
        columns: Columns = {"size_mb": packed_megabytes(model, metadata)}
    except Exception as error:
        return {"latency_disturbed": None}, _line(error)
    if not latency:
        return columns, ""
    try:
        return {**columns, **_latency(model, metadata)}, ""
    except Exception as error:
        return {**columns, "latency_ms": None, "latency_disturbed": None}, _line(error)


def packed_megabytes(model: nn.Module, metadata: dict[str, Any]) -> float:
    """Return the size of the model's file in ``export --format packed``, in 1e6 bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.packed.safetensors"
        save(path, model.state_dict(), metadata, "packed")
        return path.stat().st_size / 1e6


def unsupported(config: ModelConfig, num_classes: int, channels: int, image_size: int) -> str | None:
    """Return in a line what the sparse engine lacks for a model; None if it can run it. Needs no compiler."""
    try:
        graph = fold_batch_norms(traced(build_model(config, num_classes, channels).eval()))
        sparse_ops(graph, (channels, image_size, image_size))
    except Exception as error:
        return _line(error)
    return None


def _latency(model: nn.Module, metadata: dict[str, Any]) -> Columns:
    model = model.eval()
    graph = fold_batch_norms(traced(model))
    size = metadata["image_size"]
    remove_dead_channels(graph, (metadata["channels"], size, size))
    with tempfile.TemporaryDirectory() as folder:
        engine, _ = save_sparse(Path(folder) / "model.sparse", graph, model, metadata)
        assert isinstance(engine.run, SparseModel)
        found = timed(engine.run)
    return {"latency_ms": found.milliseconds, "latency_disturbed": found.disturbed}


def _line(error: Exception) -> str:
    text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return " ".join(text.removeprefix("--format sparse: ").split())[:300]
