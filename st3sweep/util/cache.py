"""Find the folder of what can be made again: decoded datasets, and local copies of runs in an object store."""

from __future__ import annotations

import os
from pathlib import Path

from st3sweep.util.errors import UserError


def cache_folder() -> Path:
    """Return ``ST3SWEEP_CACHE``, or else ``st3sweep`` in the user's cache folder, as an absolute path.

    Raises UserError for a relative ``ST3SWEEP_CACHE``, since each worker runs in its own folder, and
    FileNotFoundError for a user without a home folder.
    """
    chosen = os.environ.get("ST3SWEEP_CACHE", "")
    users = os.environ.get("XDG_CACHE_HOME", "")
    default = os.path.join(users if os.path.isabs(users) else "~/.cache", "st3sweep")  # XDG: a relative one is ignored
    folder = Path(os.path.expanduser(chosen or default))
    if folder.is_absolute():
        return folder
    if chosen:
        raise UserError(f"the environment variable ST3SWEEP_CACHE must be an absolute path (got {chosen!r})")
    raise FileNotFoundError("the user has no home folder")
