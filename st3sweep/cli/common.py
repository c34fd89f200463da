"""Define the arguments that several commands share, and parse them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from st3sweep.util.errors import UserError

SpaceFile = Annotated[Path, typer.Argument(help="A search space in YAML.")]


def run_folder(place: str) -> Path:
    """Return the folder of a run; of one in an object store, after bringing here what is new of its tables."""
    from st3sweep.runs.bring import local_run

    return local_run(place)


RunFolder = Annotated[
    Path, typer.Argument(help="The folder of a run, or its address: s3://…", parser=run_folder, metavar="FOLDER")
]
RunFolders = Annotated[
    list[Path],
    typer.Argument(help="Folders of one or several runs, or addresses.", parser=run_folder, metavar="FOLDERS..."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Override a field, e.g. train.epochs=10; repeatable."),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option("--plugin", metavar="MODULE", help="A module that registers models, datasets or methods; repeatable."),
]
AllowChanged = Annotated[
    bool, typer.Option("--allow-changed-plugins", help="Allow plugins whose code has changed since the run's start.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def overrides(texts: list[str] | None) -> dict[str, str]:
    pairs = {}
    for text in texts or []:
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise UserError(f"--set {text}: must be PATH=VALUE, e.g. --set train.epochs=10")
        pairs[path] = value
    return pairs
