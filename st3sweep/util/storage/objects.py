"""Store files as objects in an object store, through fsspec: s3://, gs://, az://.

Objects are read by name: a listing may be minutes old in some stores that speak S3.
"""

from __future__ import annotations

import inspect
import io
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from st3sweep.util.storage.interface import Log, Stored
from st3sweep.util.storage.object_errors import StoreError, explained, missing_package
from st3sweep.util.storage.urls import check_url

PART_BYTES = 1 << 20  # of a log, after which a new object is begun
PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0)  # seconds before a request is repeated, on average
_S3 = {
    "anon": False,
    "config_kwargs": {"connect_timeout": 10, "read_timeout": 60, "retries": {"total_max_attempts": 1}},
}


class Objects:
    """The objects whose names begin with ``url``. Requests that a busy store refuses are repeated, after ``pauses``.

    Errors are FileNotFoundError, FileExistsError and else StoreError, one line each, without the store's own words:
    those may name a key.
    """

    def __init__(self, url: str, pauses: Sequence[float] = PAUSES):
        self.url = check_url(url)
        self._pauses = pauses
        self._connect()

    def _connect(self, *, anew: bool = False) -> None:
        import fsspec  # comes with torch

        scheme, _, root = self.url.partition("://")
        self._root = root
        try:
            kind = fsspec.get_filesystem_class(scheme)
        except ImportError:
            raise missing_package(self.url) from None
        options = _S3 if scheme == "s3" else {}
        self._fs = kind(use_listings_cache=False, skip_instance_cache=anew, **options)
        self._in_one_request: dict[str, int] = {}
        if scheme == "s3":
            self._fs.retries = 1  # here it is known whether a request was repeated
            if "max_concurrency" in inspect.signature(kind._cat_file).parameters:
                self._in_one_request = {"max_concurrency": 1}  # else it asks for the size first

    @contextmanager
    def put(
        self,
        name: str,
        *,
        keep: str | None = None,
        sync: bool = True,  # noqa: ARG002  an object is there or not
    ) -> Iterator[BinaryIO]:
        buffer = io.BytesIO()
        yield buffer
        if keep is not None:
            with suppress(FileNotFoundError):
                self._call(lambda fs: fs.cp_file(self._path(name), self._path(keep)))
        self.write(name, buffer.getvalue())

    def write(self, name: str, content: bytes) -> None:
        """Replace an object whole."""
        self._call(lambda fs: fs.pipe_file(self._path(name), content))

    def create(self, name: str, content: bytes) -> None:
        """Write a new object; ``content`` must be no other program's. Raises FileExistsError if there is one."""
        tries = 0

        def create(fs: Any) -> None:
            nonlocal tries
            tries += 1
            fs.pipe_file(self._path(name), content, mode="create")

        try:
            self._call(create)
        except FileExistsError:
            if tries == 1 or self.read(name) != content:  # else an earlier try succeeded, and its answer was lost
                raise

    def upload(self, name: str, file: Path) -> None:
        """Replace an object by the content of a file."""
        self._call(lambda fs: fs.put_file(str(file), self._path(name)))

    def download(self, name: str, file: Path) -> None:
        """Write an object's content to ``file``, in pieces. Raises FileNotFoundError."""
        self._call(lambda fs: fs.get_file(self._path(name), str(file)))

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return an object's content, or its bytes from ``start`` up to ``end``. Raises FileNotFoundError."""
        return bytes(self._call(lambda fs: fs.cat_file(self._path(name), start=start, end=end, **self._in_one_request)))

    def append(self, name: str) -> Log:
        """Open a log to append to: the objects ``name/000000``, ``name/000001``, …, of whole lines each."""
        return ObjectLog(self, name)

    def open(self, name: str) -> BinaryIO:
        """Open an object, or the parts of a log, for reading: all of it is read into memory at once."""
        with suppress(FileNotFoundError):
            return io.BytesIO(self.read(name))
        parts = [content for _, content in read_parts(self, name)]
        if not parts:
            raise FileNotFoundError(f"{self.where(name)}: not found")
        return io.BytesIO(b"".join(parts))

    def list(self, folder: str = "") -> list[Stored]:
        """Return the objects of ``folder`` that the store lists, which may lack the newest."""
        at = self._path(folder) if folder else self._root
        try:
            found = self._call(lambda fs: fs.find(at, detail=True))
        except FileNotFoundError:
            return []
        start = len(self._root) + 1
        return sorted(Stored(path.lstrip("/")[start:], facts["size"]) for path, facts in found.items())

    def where(self, name: str) -> str:
        return f"{self.url}/{name}"

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._call(lambda fs: fs.rm_file(self._path(name)))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _call(self, do: Callable[[Any], Any]) -> Any:
        for pause in (*self._pauses, None):
            try:
                return do(self._fs)
            except Exception as error:  # of each store's own package, and of fsspec's
                found = explained(self.url, error)
                if isinstance(found, StoreError) and found.expired:
                    self._connect(anew=True)  # the next request looks for credentials anew
                if pause is None or not (isinstance(found, StoreError) and found.passes):
                    raise found from None
            time.sleep(pause * random.uniform(0.5, 1.5))
        raise AssertionError


class ObjectLog:
    """A log in parts: the last is replaced whole, with what is appended, until it is full. It never has half a line."""

    def __init__(self, store: Objects, name: str, first: int = 0, before: int = 0):
        """Open the log; parts before number ``first``, of ``before`` bytes together, are known to be full."""
        self._store, self._name = store, name
        self.number, self.last, self.size = first, b"", before
        for self.number, self.last in read_parts(store, name, first):
            self.size += len(self.last)

    @property
    def before(self) -> int:
        """Return the bytes before the last part."""
        return self.size - len(self.last)

    def append(self, lines: bytes, *, sync: bool = False) -> None:  # noqa: ARG002  an object is there or not
        """Append whole lines, in one request. Raises StoreError and leaves the log as it was."""
        full = len(self.last) >= PART_BYTES
        number, content = (self.number + 1, lines) if full else (self.number, self.last + lines)
        self._store.write(part_name(self._name, number), content)
        self.number, self.last, self.size = number, content, self.size + len(lines)

    def sync(self) -> None:
        """Do nothing: what was appended is in the store."""

    def close(self) -> None:
        """Do nothing."""


def part_name(name: str, number: int) -> str:
    """Return the name of part ``number`` of the log ``name``."""
    return f"{name}/{number:06d}"


def read_parts(store: Objects, name: str, first: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield the parts of a log from number ``first``, with their numbers, up to the first that is not there."""
    number = first
    while True:
        try:
            content = store.read(part_name(name, number))
        except FileNotFoundError:
            return
        yield number, content
        number += 1
