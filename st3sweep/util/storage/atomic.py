"""Files that are whole or absent, never half."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


def temporary(path: Path) -> Path:
    """Where ``atomic_write`` writes until the file is whole."""
    return path.with_name(f".{path.name}.tmp")


@contextmanager
def atomic_write(path: Path, *, keep: Path | None = None, sync: bool = True) -> Iterator[BinaryIO]:
    """A file to write to, which gets the name ``path`` when the block ends: a crash leaves the old file or the new one.

    The old one becomes ``keep``, where that is given. Without ``sync`` a loss of power may leave an empty file: for
    what can be made again. After an exception in the block the old file is as it was.
    """
    part = temporary(path)
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(part, path)
    finally:
        with suppress(OSError):
            part.unlink()
