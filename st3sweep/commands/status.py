"""Show a run's progress, once or until it ends."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from rich.console import Group
from rich.live import Live

from st3sweep.reporting.console import out, say, short, show
from st3sweep.sweep.status import read_status
from st3sweep.util.text import json_line

WATCH_SECONDS = 2.0


def print_status(folder: Path, *, as_json: bool) -> None:
    """Print the state of the run in ``folder``. Raises UserError if it is not a run."""
    seen = read_status(folder)
    if as_json:
        print(json_line(seen.as_dict()))
        return
    for line in seen.lines(short(seen.folder)):
        say(line)
    show(seen.table())


def watch_status(folder: Path, *, as_json: bool) -> bool:
    """Show the run every two seconds while a program runs it; piped without JSON, only wait for its end.

    Returns whether its final state has been shown.
    """
    seen = read_status(folder)
    if not seen.held_by:
        return False
    on_terminal = out.is_terminal and not as_json
    with (
        contextlib.suppress(KeyboardInterrupt),
        Live(console=out, auto_refresh=False) if on_terminal else contextlib.nullcontext() as live,
    ):
        while True:
            seen = read_status(folder)
            if as_json:
                print(json_line(seen.as_dict()), flush=True)
            elif live is not None:
                live.update(Group(*seen.lines(short(seen.folder)), seen.table()), refresh=True)
            if not seen.held_by:
                break
            time.sleep(WATCH_SECONDS)
    return on_terminal or as_json
