"""Commands that need no run: models, cost, data packs, JSON Schema, checks of the machine."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from st3sweep.cli.common import AsJson, Overrides, Plugins, overrides
from st3sweep.reporting.console import progress_bar, say, warn
from st3sweep.util.text import counted

app = typer.Typer()
data_app = typer.Typer(help="Prepare the data of a study.", no_args_is_help=True)
app.add_typer(data_app, name="data")


@app.command()
def models(as_json: AsJson = False) -> None:
    """Print the paper's models with their weights and cost, and the settings of every model."""
    from st3sweep.networks.published import counted, networks_text

    print(json.dumps(list(counted())) if as_json else networks_text())


@app.command()
def cost(
    network: Annotated[str, typer.Argument(help="A model: its arch, or its name in torchvision or timm.")],
    budget: Annotated[
        Path | None, typer.Option(help="CSV with columns layer and sparsity; layer * stands for all others.")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Pixels per side. Default: those of the model's dataset.")
    ] = None,
    classes: Annotated[
        int | None, typer.Option(min=1, help="Number of classes. Default: that of the model's dataset.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of the model, e.g. depth=56; repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print a model's multiply-accumulates layer by layer, dense or at the sparsities in a file."""
    from st3sweep.commands.cost import cost_text, network_cost

    found = network_cost(network, overrides(set_), budget, image_size, classes)
    print(json.dumps(asdict(found)) if as_json else cost_text(found))


@data_app.command()
def pack(
    file: Annotated[Path, typer.Argument(help="A search space or a trial in YAML that names the dataset.")],
    folder: Annotated[
        Path | None, typer.Option("--out", help="Folder of the pack. Default: the file's data.pack.")
    ] = None,
    short_side: Annotated[
        int | None, typer.Option(help="Shorter side of photographs in pixels. Default: 256 for image_size 224.")
    ] = None,
    set_: Overrides = None,
    plugin: Plugins = None,
) -> None:
    """Decode and resize every image once, so that trials read pixels at memory speed."""
    from st3sweep.commands.pack import pack_data

    with progress_bar("packing") as advance:
        made = pack_data(file, overrides(set_), folder, short_side, advance, plugin or [])
    if made.left_out:
        warn(f"left out: {counted(made.left_out, 'image')} that cannot be read; see {made.folder / 'manifest.json'}")
    say(f"{made.folder}: {made.images:,} images. Trials read it with: data.pack: {made.folder}")


@app.command()
def schema(plugin: Plugins = None) -> None:
    """Print the JSON Schema of a search space, for editors."""
    from st3sweep.space.json_schema import space_schema
    from st3sweep.training.components import register_components

    register_components(plugin or [])
    print(json.dumps(space_schema(), indent=2, ensure_ascii=False))


@app.command()
def doctor(
    space_file: Annotated[Path | None, typer.Argument(help="A search space whose data to check too.")] = None,
    storage: Annotated[Path, typer.Option(help="Folder of runs.")] = Path("runs"),
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="First fit the prediction of latency to this machine, about a minute.")
    ] = False,
    as_json: AsJson = False,
    plugin: Plugins = None,
) -> None:
    """Check whether this machine is ready: versions, devices, storage, ports, latency, data."""
    from st3sweep.commands.doctor import checks
    from st3sweep.util.text import aligned

    if calibrate:
        from st3sweep.export.calibration import calibrate as fit_latency

        with progress_bar("calibrating") as advance:
            fit_latency(advance)
    found = list(checks(storage, space_file, plugin or []))
    if as_json:
        print(json.dumps([asdict(check) for check in found], ensure_ascii=False))
    else:
        print(aligned([(check.state, check.name, check.found) for check in found], left=[0, 1, 2]))
    raise typer.Exit(2 if any(check.state == "fail" for check in found) else 0)
