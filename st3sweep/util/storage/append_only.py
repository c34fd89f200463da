"""Append lines to files, so that a killed process leaves complete lines and at most one partial one."""

from __future__ import annotations

import contextlib
import errno
import os
from io import RawIOBase
from pathlib import Path

_CHUNK = 1 << 16


def append(file: RawIOBase, lines: bytes, *, sync: bool = False) -> None:
    """Append ``lines`` to an unbuffered ``file``, all or none of them; with ``sync`` they survive a power failure.

    Raises OSError if they cannot be written; the file is then as long as before.
    """
    size = os.fstat(file.fileno()).st_size
    try:
        if file.write(lines) != len(lines):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if sync:
            os.fsync(file.fileno())
    except OSError:
        with contextlib.suppress(OSError):  # else the partial line is dropped when the file is next opened
            os.ftruncate(file.fileno(), size)
        raise


def drop_torn_line(path: Path) -> None:
    """Remove the partial line that a process killed while writing left at the end of ``path``; reads only the end."""
    with open(path, "rb") as file:
        size = end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - _CHUNK)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
    if end < size:
        os.truncate(path, end)
