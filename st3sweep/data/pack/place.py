"""Where a pack lies: a folder, or an address of an object store, from which its files are copied and not mapped."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from st3sweep.util.storage.objects import Objects
from st3sweep.util.storage.urls import url_of

BLOCK = 1 << 24  # bytes read at a time
_REQUESTS = 8  # of an object store at a time


class Place:
    """The files of a pack by name. Raises OSError where one cannot be read, UserError for a store that is not known."""

    def __init__(self, pack: str):
        url = url_of(pack)
        self.folder = None if url else Path(pack)
        self._store = Objects(url) if url else None
        self._text = url or str(self.folder)

    def __str__(self) -> str:
        return self._text

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        return self._store.read(name) if self._store else (Path(self._text) / name).read_bytes()

    def blocks(self, name: str, size: int) -> Iterator[memoryview]:
        """Yield the content of a file of ``size`` bytes, in blocks that are valid until the next one."""
        if self._store is None:
            yield from blocks(Path(self._text) / name)
            return
        store, starts = self._store, range(0, size, BLOCK)
        with ThreadPoolExecutor(_REQUESTS) as pool:
            for group in range(0, len(starts), _REQUESTS):  # no more are in memory
                together = starts[group : group + _REQUESTS]
                for content in pool.map(lambda start: store.read(name, start, min(start + BLOCK, size)), together):
                    yield memoryview(content)


def blocks(path: Path) -> Iterator[memoryview]:
    """Yield the content of a file, in a buffer that the next block overwrites."""
    buffer = memoryview(bytearray(BLOCK))
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):  # type: ignore[attr-defined]
            yield buffer[:count]
