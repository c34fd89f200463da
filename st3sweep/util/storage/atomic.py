"""Write files atomically: complete or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


def temporary(path: Path) -> Path:
    """Return where ``atomic_write`` writes until the file is complete."""
    return path.with_name(f".{path.name}.tmp")


@contextmanager
def atomic_write(path: Path, *, keep: Path | None = None, sync: bool = True) -> Iterator[BinaryIO]:
    """Open a file for writing that is renamed to ``path`` when the block ends: a crash leaves the old or the new file.

    The old one is renamed to ``keep``, if given. Without ``sync`` a power failure may leave an empty file: for
    reproducible content. An exception in the block leaves the old file unchanged.
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
