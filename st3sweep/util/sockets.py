"""Choose a folder in which the paths of Ray's sockets are short enough for the system."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from st3sweep.util.errors import UserError

MOST_CHARACTERS = 107  # of a socket's path on Linux
SHORT = Path("/tmp/ray")
_BELOW = "/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"


def ray_folder(say: Callable[[str], None] = lambda _: None) -> Path:
    """Return the folder for Ray's temporary files: Ray's own choice, or ``/tmp/ray`` where its paths are too long.

    A long ``TMPDIR`` is usual under Slurm; ``say`` is told that it is not used. Raises UserError for a ``RAY_TMPDIR``
    that is too long.
    """
    chosen = os.environ.get("RAY_TMPDIR")
    folder = Path(chosen or os.environ.get("TMPDIR") or "/tmp") / "ray"
    longest = MOST_CHARACTERS - len(_BELOW)
    if len(str(folder)) <= longest:
        return folder
    if chosen:
        message = f"{chosen} is too long for the paths of Ray's sockets: at most {longest - len('/ray')} characters"
        raise UserError(f"the environment variable RAY_TMPDIR: {message}")
    say(f"Ray's temporary files are in {SHORT}: TMPDIR is too long for the paths of its sockets")
    return SHORT
