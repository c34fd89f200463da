"""Name and find the checkpoint files in a trial's folder, without importing torch."""

from __future__ import annotations

import os
from pathlib import Path

from st3sweep.util.storage.atomic import temporary

LAST, BEST = "last.ckpt", "best.ckpt"
PILOTS = "pilots"  # folder of the pilot trainings of some methods, each with checkpoints of its own


def previous(name: str) -> str:
    """Return the name under which the predecessor of the checkpoint ``name`` is kept."""
    return f"{name}.previous"


PREVIOUS = previous(LAST)
_NAMES = frozenset({LAST, PREVIOUS, BEST, *(temporary(Path(name)).name for name in (LAST, BEST))})


def find_checkpoints(folder: Path) -> dict[str, Path]:
    """Return the checkpoints in ``folder`` and in its pilots' folders, by name, e.g. ``pilots/0/last.ckpt``.

    Includes incomplete files that a kill left behind. Lists folders and opens no file. Raises OSError where a folder
    cannot be listed; an absent one holds none.
    """
    found = _in(folder)
    if PILOTS in found:
        for number in _listed(found.pop(PILOTS)):
            found |= {f"{PILOTS}/{number}/{name}": path for name, path in _in(folder / PILOTS / number).items()}
    return found


def is_checkpoint(name: str) -> bool:
    """Return whether ``name`` is one that ``find_checkpoints`` gives a checkpoint."""
    *folders, last = name.split("/")
    return last in _NAMES and (not folders or (len(folders) == 2 and folders[0] == PILOTS))


def _in(folder: Path) -> dict[str, Path]:
    return {name: folder / name for name in _listed(folder) if name in _NAMES or name == PILOTS}


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
