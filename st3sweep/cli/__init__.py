"""Define the command-line program: its commands, error output and exit codes.

0 done · 2 invalid input · 3 the budget was spent before the end · 4 some trials failed · 130 interrupted, can be
resumed.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from st3sweep.cli import sweeps, tables, tools, trials
from st3sweep.util.errors import NO_SPACE, SpecError, UserError
from st3sweep.util.version import __version__

app = typer.Typer(
    help="Find the best accuracy at every GFLOP budget of a convolutional network.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for _part in (sweeps, tables, trials, tools):
    app.add_typer(_part.app)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"st3sweep {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the program; a user error prints one line per problem and exits with code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal of another encoding gets \\xd7 for ×, not an error
            stream.reconfigure(errors="backslashreplace")
    with _clear_errors():
        try:
            os.getcwd()
        except FileNotFoundError:
            raise UserError("the working directory no longer exists; change to another one") from None
        app(standalone_mode=True)


@contextmanager
def _clear_errors() -> Iterator[None]:
    try:
        try:
            yield
        except SystemExit:
            sys.stdout.flush()  # here, where a full disk can be reported
            raise
    except SpecError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        sys.exit(2)
    except UserError as error:
        print(f"st3sweep: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        _discard_output()
        print(f"st3sweep: {error.strerror}: {error.filename or 'the output'}", file=sys.stderr)
        sys.exit(2)


def _discard_output() -> None:
    """Send what is buffered for stdout nowhere, since Python would try to write it, and fail, at its exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
