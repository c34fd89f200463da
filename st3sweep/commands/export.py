"""Export a finished trial's sparse model to a file, and print its layers and its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from st3sweep.export import packed_file
from st3sweep.export.dead_channels import remove_dead_channels
from st3sweep.export.engines import save_onnx, save_openvino
from st3sweep.export.folding import fold_batch_norms, traced
from st3sweep.export.from_run import export, some_images, validation_top1
from st3sweep.export.half import in_half
from st3sweep.export.model_file import FORMATS, check_counts, counted, rebuilt, save, totals
from st3sweep.export.sparse_folder import save_sparse
from st3sweep.networks import flops
from st3sweep.networks.flops import LayerCost
from st3sweep.reporting.console import short
from st3sweep.runs.folder import trial_folder
from st3sweep.training.components import register_components
from st3sweep.util.errors import UserError
from st3sweep.util.text import aligned, format_flops, json_line

SAVES = {"onnx": save_onnx, "openvino": save_openvino, "sparse": save_sparse}


@dataclass(frozen=True)
class ExportConfig:
    """What to write: ``format`` is one of FORMATS, or of SAVES, which run in an engine.

    ``fp16`` and ``zstd`` are for packed files; ``keep_dead_channels`` is for engines, whose files lose them otherwise.
    """

    format: str = "safetensors"
    fp16: bool = False
    zstd: bool = False
    keep_dead_channels: bool = False

    @property
    def suffix(self) -> str:
        """Return the end of the file's name."""
        if self.format == "packed":
            return ".packed.safetensors" + (".zst" if self.zstd else "")
        if self.format == "openvino":
            return ".xml"
        return f".{self.format}"

    def check(self) -> None:
        """Raise UserError for an unknown format, or an option that is not for it."""
        if self.format not in (*FORMATS, *SAVES):
            raise UserError(f"--format {self.format}: allowed: {', '.join((*FORMATS, *SAVES))}")
        for option in ("fp16", "zstd"):
            if getattr(self, option) and self.format != "packed":
                raise UserError(f"--{option}: needs --format packed (got {self.format})")
        if self.keep_dead_channels and self.format not in SAVES:
            raise UserError(f"--keep-dead-channels: allowed with --format {', '.join(SAVES)} (got {self.format})")


@dataclass(frozen=True)
class Exported:
    """A written file: the model as read back from it, the one that it runs as, metadata, sizes in bytes.

    For an engine ``model`` is torch's, ``runs`` is the file in the engine, and ``difference`` is between their logits.
    """

    path: Path
    model: nn.Module
    runs: nn.Module
    metadata: dict[str, Any]
    sizes: dict[str, float]
    difference: float | None = None


def export_model(
    run: Path,
    trial: int,
    path: Path | None,
    config: ExportConfig,
    *,
    evaluate: bool,
    plugins: Sequence[str],
    allow_changed_plugins: bool = False,
    as_json: bool = False,
) -> Path:
    """Write trial ``trial`` of ``run`` to ``path``, by default in the trial's folder, and print what it holds.

    With ``evaluate`` the file is also evaluated on the validation set. Raises UserError before anything is written.
    """
    register_components(plugins)
    done = write_model(run, trial, path, config, allow_changed=allow_changed_plugins)
    costs, zeros = counted(done.model, done.metadata)
    found = totals(costs, zeros)
    top1 = validation_top1(done.runs, done.metadata, run, trial) if evaluate else None
    if as_json:
        facts = {
            name: done.metadata.get(name) for name in ("gflops_dense", "val_top1", "test_top1", "fp16", "dead_channels")
        }
        print(
            json_line(
                {
                    "file": str(done.path),
                    **found,
                    **facts,
                    "evaluated_top1": top1,
                    "bytes": done.sizes,
                    "logits_difference": done.difference,
                }
            )
        )
        return done.path
    _print_layers(costs, zeros)
    cost = format_flops(found["gflops"], of=done.metadata["gflops_dense"])
    print(f"sparsity {found['sparsity']:.4f}, {cost}, as recorded")
    if half := done.metadata.get("fp16"):
        full, rounded = half["val_top1_fp32"], half["val_top1"]
        print(f"fp16 loses {full - rounded:.2f} points: validation {rounded:.2f} %, {full:.2f} % in fp32")
    if top1 is not None:
        print(f"validation {top1:.2f} %, recorded {done.metadata['val_top1']:.2f} %")
    if dead := done.metadata.get("dead_channels"):
        left = format_flops(dead["gflops_dense"], of=done.metadata["gflops_dense"])
        print(
            f"{dead['removed']} dead channels removed: a dense network of {left}, {format_flops(dead['gflops'])} sparse"
        )
    if done.difference is not None:
        print(f"logits of {config.format} differ by at most {done.difference:.2g} from torch's")
    _print_sizes(done.sizes)
    print(f"file: {short(done.path)}")
    return done.path


def write_model(
    run: Path, trial: int, path: Path | None, config: ExportConfig, *, allow_changed: bool = False
) -> Exported:
    """Write the model of trial ``trial`` of ``run``, and read it back. Raises UserError before anything is written."""
    config.check()
    path = path or trial_folder(run, trial) / f"model{config.suffix}"
    end = config.suffix.removeprefix(".packed")
    if not path.name.endswith(end):
        raise UserError(f"--out {path}: must end in {end}; see --format")
    state, metadata = export(run, trial, allow_changed=allow_changed)
    if config.fp16:
        state, metadata = _in_half(state, metadata, run, trial)
    if config.format in SAVES:
        return _for_engine(path, config, state, metadata, some_images(metadata, run, trial))
    model = save(path, state, metadata, config.format, fp16=config.fp16, zstd=config.zstd)
    return Exported(path, model, model, metadata, _sizes(path, model, metadata, config.fp16))


def _for_engine(
    path: Path, config: ExportConfig, state: dict[str, Tensor], metadata: dict[str, Any], images: Tensor | None
) -> Exported:
    model = rebuilt(state, metadata)
    check_counts(path, model, metadata)
    graph = fold_batch_norms(traced(model))
    if not config.keep_dead_channels:
        size = metadata["image_size"]
        removed = remove_dead_channels(graph, (metadata["channels"], size, size))
        costs, zeros = counted(graph, metadata)
        left = {"gflops_dense": flops.gflops(costs), "gflops": totals(costs, zeros)["gflops"]}
        metadata = {**metadata, "dead_channels": {"removed": removed, **left}}
    engine, difference = SAVES[config.format](path, graph, model, metadata, images)
    return Exported(path, model, engine, metadata, _sizes(path, model, metadata, fp16=False), difference)


def _in_half(
    state: dict[str, Tensor], metadata: dict[str, Any], run: Path, trial: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Round the weights, and measure on the validation set what that costs; the recorded accuracy stays."""
    rounded, metadata = in_half(state, metadata)
    full = validation_top1(rebuilt(state, metadata), metadata, run, trial)
    half = validation_top1(rebuilt(rounded, metadata), metadata, run, trial)
    return rounded, {**metadata, "fp16": {"val_top1": half, "val_top1_fp32": full}}


def _sizes(path: Path, model: nn.Module, metadata: dict[str, Any], fp16: bool) -> dict[str, float]:
    """Return the bytes of the file; of its weights packed, and at their ideal; of all tensors dense in float32."""
    state = model.state_dict()
    dense = sum(tensor.numel() * tensor.itemsize for tensor in state.values())
    names = packed_file.packable(state, list(metadata["zeros"]))
    state = packed_file.positive_zeros(state, names)
    sizes = packed_file.sizes(state, names, "float16" if fp16 else "float32")
    files = [path, *([path.with_suffix(".bin")] if path.suffix == ".xml" else [])]
    if path.is_dir():
        files = [path / "ops.json", path / "weights.bin"]
    return {"file": sum(file.stat().st_size for file in files), "dense": dense, **sizes}


def _print_sizes(sizes: dict[str, float]) -> None:
    ideal = sizes["ideal"] + sizes["other_tensors"]
    print(
        f"size {sizes['file']:,.0f} bytes, dense {sizes['dense']:,.0f}; "
        f"ideal {ideal:,.0f} (entropy of the mask, values, other tensors): {sizes['file'] / ideal:.2f} x"
    )
    packed = f"packed {sizes['weights']:,.0f} bytes, ideal {sizes['ideal']:,.0f}: "
    print(f"prunable weights alone: {packed}{sizes['weights'] / max(sizes['ideal'], 1):.2f} x")


def _print_layers(costs: Sequence[LayerCost], zeros: Sequence[int]) -> None:
    rows = [("layer", "weights", "zeros", "density", "MFLOPs")]
    for layer, count in zip(costs, zeros, strict=True):
        density = 1 - count / layer.numel
        rows.append((layer.name, str(layer.numel), str(count), f"{density:.4f}", f"{layer.macs * density / 1e6:.4g}"))
    print(aligned(rows, left=[0]))
