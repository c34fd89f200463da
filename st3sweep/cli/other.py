"""Commands that need no run: networks, data, the schema of a space."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from st3sweep.cli.common import AsJson, Overrides, err, out, overrides, progress_bar

app = typer.Typer()
data_app = typer.Typer(help="Prepare the data of a study.", no_args_is_help=True)
app.add_typer(data_app, name="data")


@app.command()
def models(as_json: AsJson = False) -> None:
    """Print the networks of the paper with their weights and cost, and every network's settings."""
    from st3sweep.networks import counted, networks_text

    print(json.dumps(list(counted())) if as_json else networks_text())


@data_app.command()
def pack(
    file: Annotated[Path, typer.Argument(help="A search space or a trial in YAML: it names the dataset.")],
    folder: Annotated[
        Path | None, typer.Option("--out", help="Folder of the pack. Default: the file's data.pack.")
    ] = None,
    short_side: Annotated[
        int | None, typer.Option(help="Pixels of the shorter side of photographs. Default: 256 for image_size 224.")
    ] = None,
    set_: Overrides = None,
) -> None:
    """Decode and resize every image once, so that trials read pixels at the speed of memory."""
    from st3sweep.packing import pack_data

    with progress_bar("packing") as advance:
        made = pack_data(file, overrides(set_), folder, short_side, advance)
    if made.left_out:
        err.print(f"left out: {made.left_out} images that cannot be read; see {made.folder / 'manifest.json'}")
    out.print(f"{made.folder}: {made.images:,} images. Trials read it with: data.pack: {made.folder}", soft_wrap=True)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a search space, for editors."""
    from st3sweep.json_schema import space_schema

    print(json.dumps(space_schema(), indent=2, ensure_ascii=False))
