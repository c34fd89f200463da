"""Export a finished trial's sparse model to a file, and print its layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from st3sweep.export.from_run import export, validation_top1
from st3sweep.export.model_file import FORMATS, counted, save, totals
from st3sweep.networks.flops import LayerCost
from st3sweep.reporting.console import short
from st3sweep.runs.folder import trial_folder
from st3sweep.training.components import register_components
from st3sweep.util.errors import UserError
from st3sweep.util.text import aligned, format_flops


def export_model(
    run: Path,
    trial: int,
    path: Path | None,
    format_: str,
    *,
    evaluate: bool,
    plugins: Sequence[str],
    allow_changed_plugins: bool = False,
) -> Path:
    """Write trial ``trial`` of ``run`` to ``path``, by default in the trial's folder, and print its layers.

    With ``evaluate`` the file is also evaluated on the validation set. Raises UserError before anything is written.
    """
    register_components(plugins)
    path, model, metadata = write_model(run, trial, path, format_, allow_changed=allow_changed_plugins)
    costs, zeros = counted(model, metadata)
    _print_layers(costs, zeros)
    found = totals(costs, zeros)
    cost = format_flops(found["gflops"], of=metadata["gflops_dense"])
    print(f"sparsity {found['sparsity']:.4f}, {cost}, as recorded")
    if evaluate:
        top1 = validation_top1(model, metadata, run, trial)
        print(f"validation {top1:.2f} %, recorded {metadata['val_top1']:.2f} %")
    print(f"file: {short(path)}")
    return path


def write_model(
    run: Path, trial: int, path: Path | None, format_: str, *, allow_changed: bool = False
) -> tuple[Path, nn.Module, dict[str, Any]]:
    """Write the model of trial ``trial`` of ``run``; returns the file, the model read back from it, its metadata."""
    path = path or trial_folder(run, trial) / f"model.{format_}"
    if format_ not in FORMATS:
        raise UserError(f"--format {format_}: allowed: {', '.join(FORMATS)}")
    if path.suffix != f".{format_}":
        raise UserError(f"--out {path}: must end in .{format_}; see --format")
    state, metadata = export(run, trial, allow_changed=allow_changed)
    return path, save(path, state, metadata, format_), metadata


def _print_layers(costs: Sequence[LayerCost], zeros: Sequence[int]) -> None:
    rows = [("layer", "weights", "zeros", "density", "MFLOPs")]
    for layer, count in zip(costs, zeros, strict=True):
        density = 1 - count / layer.numel
        rows.append((layer.name, str(layer.numel), str(count), f"{density:.4f}", f"{layer.macs * density / 1e6:.4g}"))
    print(aligned(rows, left=[0]))
