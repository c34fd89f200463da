"""What the commands share: their consoles, arguments that several have, and how they say things."""

from __future__ import annotations

import io
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, RenderableType

from st3sweep.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

out, err = Console(highlight=False), Console(stderr=True, highlight=False)
_PIPED_WIDTH = 1000

SpaceFile = Annotated[Path, typer.Argument(help="A search space in YAML.")]
RunFolder = Annotated[Path, typer.Argument(help="The folder of a run.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Override a field, e.g. train.epochs=10; repeatable."),
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal; gives ``advance(done, of)``."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def show(text: RenderableType) -> None:
    """Print what is laid out in columns; piped, it is as wide as it is, whatever the terminal."""
    if out.is_terminal:
        out.print(text)
        return
    wide = Console(file=io.StringIO(), width=_PIPED_WIDTH, highlight=False)
    with wide.capture() as captured:
        wide.print(text)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def overrides(texts: list[str] | None) -> dict[str, str]:
    pairs = {}
    for text in texts or []:
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise UserError(f"--set {text}: must be PATH=VALUE, e.g. --set train.epochs=10")
        pairs[path] = value
    return pairs


def json_rows(table: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """The rows as JSON has them: all digits of every number, null for what is none."""
    import numpy as np

    known = table.notna() & ~table.isin([np.inf, -np.inf])
    return table.astype(object).where(known, None).to_dict("records")


def short(path: Path) -> str:
    """Relative where that is shorter to read."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
