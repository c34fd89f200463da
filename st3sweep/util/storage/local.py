"""Store files in a folder of a local or shared file system."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from st3sweep.util.storage.append_only import append, drop_torn_line
from st3sweep.util.storage.atomic import atomic_write, temporary
from st3sweep.util.storage.interface import Log, Stored


class Local:
    """The files in the folder ``root``, which exists; the folders within it are made when a file needs them."""

    def __init__(self, root: Path):
        self.root = root

    @contextmanager
    def put(self, name: str, *, keep: str | None = None, sync: bool = True) -> Iterator[BinaryIO]:
        kept = None if keep is None else self._to_write(keep)
        with atomic_write(self._to_write(name), keep=kept, sync=sync) as file:
            yield file

    def create(self, name: str, content: bytes) -> None:
        path = self._to_write(name)
        part = temporary(path).with_suffix(f".{secrets.token_hex(8)}")  # programs on other hosts may have this pid
        try:
            with open(part, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.link(part, path)  # unlike a rename, it fails where the file exists, and it appears complete
        finally:
            with suppress(OSError):
                part.unlink()

    def append(self, name: str) -> Log:
        return LocalLog(self._to_write(name))

    def open(self, name: str) -> BinaryIO:
        return open(self.root / name, "rb")

    def list(self, folder: str = "") -> list[Stored]:
        found = (path for path in (self.root / folder).rglob("*") if path.is_file())
        names = ((path.relative_to(self.root).as_posix(), path) for path in found)
        return [Stored(name, path.stat().st_size) for name, path in sorted(names)]

    def where(self, name: str) -> str:
        return str(self.root / name)

    def remove(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    def _to_write(self, name: str) -> Path:
        path = self.root / name
        for folder in reversed(path.relative_to(self.root).parents[:-1]):
            (self.root / folder).mkdir(exist_ok=True)
        return path


class LocalLog:
    """A file to append to, open as long as this object is."""

    def __init__(self, path: Path):
        with suppress(FileNotFoundError):
            drop_torn_line(path)
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115
        self.size = os.fstat(self._file.fileno()).st_size

    def append(self, lines: bytes, *, sync: bool = False) -> None:
        append(self._file, lines, sync=sync)
        self.size += len(lines)

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
