"""Commands for one trial: train it, reproduce it, export its model."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from st3sweep.cli.common import AllowChanged, AsJson, Overrides, Plugins, RunFolder, overrides
from st3sweep.reporting.console import say
from st3sweep.util.text import aligned

app = typer.Typer()


@app.command()
def train(
    trial_file: Annotated[Path, typer.Argument(help="A trial in YAML: the fields of a search space's trial part.")],
    set_: Overrides = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Folder for the results; a trial in it is resumed.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, or auto.")] = "auto",
    plugin: Plugins = None,
) -> None:
    """Train one trial in this process, without Ray."""
    from st3sweep.commands.reading import read_trial
    from st3sweep.commands.train import train_one

    settings = read_trial(trial_file, overrides(set_), plugin or [])
    folder = folder or Path("runs") / f"{trial_file.stem}-{settings.digest()}-{settings.seed}"
    status = train_one(settings, folder, device, say)
    say(f"results: {folder / 'trials.parquet'}")
    raise typer.Exit(0 if status == "finished" else 4)


@app.command()
def reproduce(
    folder: RunFolder,
    trial: Annotated[int, typer.Argument(min=0, help="Number of the trial in the table of results.")],
    path: Annotated[
        Path | None, typer.Option("--out", help="Folder for the new results. Default: in the trial's folder.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, or auto.")] = "auto",
    plugin: Plugins = None,
    allow_changed_plugins: AllowChanged = False,
) -> None:
    """Train a finished trial again from its settings and compare it with the recorded results."""
    from st3sweep.commands.reproduce import reproduce as train_again
    from st3sweep.runs.folder import free_folder, trial_folder
    from st3sweep.training.components import register_components

    register_components(plugin or [])
    path = path or free_folder(trial_folder(folder, trial) / "reproduced")
    rows = train_again(folder, trial, path, device, say, allow_changed_plugins=allow_changed_plugins)
    same = all(before == now for _, before, now in rows)
    text = [(name, _digits(before), _digits(now), "" if before == now else "differs") for name, before, now in rows]
    print("\n" + aligned([("", "recorded", "now", ""), *text], left=[0, 3]))
    print("\nidentical to the last digit" if same else "\nnot identical")
    raise typer.Exit(0 if same else 4)


def _digits(value: Any) -> str:
    """Format ``value`` with all its digits."""
    return "-" if value is None else repr(value)


@app.command()
def measure(
    folder: RunFolder,
    trials: Annotated[
        list[int] | None, typer.Argument(min=0, help="Numbers of finished trials. Default: all not measured.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure also those that were measured before.")] = False,
    as_json: AsJson = False,
    plugin: Plugins = None,
    allow_changed_plugins: AllowChanged = False,
) -> None:
    """Measure latency and file size of finished trials on this machine, one after another, into the run's tables."""
    from st3sweep.commands.measure import print_measured

    print_measured(
        folder, trials or [], again=again, plugins=plugin or [], allow_changed=allow_changed_plugins, as_json=as_json
    )


class ModelFormat(StrEnum):
    safetensors = "safetensors"
    pt = "pt"
    packed = "packed"
    onnx = "onnx"
    openvino = "openvino"
    sparse = "sparse"


@app.command()
def export(
    folder: RunFolder,
    trial: Annotated[int, typer.Argument(min=0, help="Number of the trial in the table of results.")],
    path: Annotated[
        Path | None, typer.Option("--out", help="File (sparse: folder) to write. Default: in the trial's.")
    ] = None,
    format_: Annotated[
        ModelFormat,
        typer.Option(
            "--format",
            help="safetensors or pt: plain torch loads it, zeros in place. packed: only the non-zeros, for numpy. onnx "
            "or openvino: for that engine, batch norms folded (extras onnx, openvino). sparse: a folder that runs on a "
            "CPU and skips the zeros, for numpy and a C compiler.",
        ),
    ] = (ModelFormat.safetensors),
    fp16: Annotated[
        bool, typer.Option("--fp16", help="Packed: values in float16; measures the accuracy that this loses.")
    ] = False,
    zstd: Annotated[bool, typer.Option("--zstd", help="Packed: compress the file (extra zstd).")] = False,
    keep_dead_channels: Annotated[
        bool,
        typer.Option("--keep-dead-channels", help="Engines: keep channels that cannot change the logits."),
    ] = False,
    evaluate: Annotated[bool, typer.Option("--evaluate", help="Also evaluate the file on the validation set.")] = False,
    json_: AsJson = False,
    plugin: Plugins = None,
    allow_changed_plugins: AllowChanged = False,
) -> None:
    """Export a finished trial's sparse model to a file, and print its layers and its size."""
    from st3sweep.commands.export import ExportConfig, export_model

    config = ExportConfig(format_.value, fp16, zstd, keep_dead_channels)
    export_model(
        folder, trial, path, config, evaluate=evaluate, plugins=plugin or [],
        allow_changed_plugins=allow_changed_plugins, as_json=json_,
    )  # fmt: skip
