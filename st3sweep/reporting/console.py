"""Print to the user's terminal or to a pipe."""

from __future__ import annotations

import io
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, RenderableType

from st3sweep.runs.store import store_of

out, err = Console(highlight=False), Console(stderr=True, highlight=False)
_PIPED_WIDTH = 1000


def print_line(console: Console, line: str) -> None:
    """Print a line as it is: brackets in an error or a path are no markup of rich, which would drop them or fail."""
    console.print(line, soft_wrap=True, markup=False, emoji=False, highlight=False)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar if on a terminal; yield ``advance(done, of)``."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def say(line: str) -> None:
    """Print a line, which the terminal may wrap."""
    print_line(out, line)


def warn(line: str) -> None:
    """Print a line to stderr."""
    print_line(err, line)


def show(text: RenderableType) -> None:
    """Print text laid out in columns; piped, at its full width, whatever the terminal."""
    if out.is_terminal:
        out.print(text)
        return
    wide = Console(file=io.StringIO(), width=_PIPED_WIDTH, highlight=False)
    with wide.capture() as captured:
        wide.print(text)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def short(path: Path) -> str:
    """Return the path relative to the working directory if it lies below it, quoted where a shell needs that.

    Of the folder of a run that is kept in an object store, return the run's address.
    """
    if url := store_of(path):
        return shlex.quote(url)
    return shlex.quote(str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path))
