"""Define the arguments that several commands share, and parse them."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from st3sweep.util.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

SpaceFile = Annotated[Path, typer.Argument(help="A search space in YAML.")]
RunFolder = Annotated[Path, typer.Argument(help="The folder of a run.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Override a field, e.g. train.epochs=10; repeatable."),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option("--plugin", metavar="MODULE", help="A module that registers models, datasets or methods; repeatable."),
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


def json_rows(table: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """Return the rows as JSON values: every digit of a number, null for missing and non-finite values."""
    import numpy as np

    known = table.notna() & ~table.isin([np.inf, -np.inf])
    return table.astype(object).where(known, None).to_dict("records")
