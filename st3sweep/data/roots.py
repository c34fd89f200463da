"""Check the folder ``data.root``."""

from __future__ import annotations

from pathlib import Path

from st3sweep.data.records import DataError


def existing_root(root: str) -> Path:
    """Return ``root`` as a path. Raises DataError unless it is a folder."""
    path = Path(root)
    if not path.exists():
        raise DataError("data.root", f"no such folder: {path}")
    if not path.is_dir():
        raise DataError("data.root", f"not a folder: {path}")
    return path
