"""What a run needs of the place where its files are: a file system or an object store.

Names are relative to the place and separated by ``/``. No operation needs more than object stores offer: objects are
replaced whole, created exclusively, listed and read in part; what is appended is numbered objects there.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import BinaryIO, NamedTuple, Protocol


class Stored(NamedTuple):
    """A file and its size in bytes."""

    name: str
    size: int


class Log(Protocol):
    """A file that only grows; ``size`` are its bytes."""

    size: int

    def append(self, lines: bytes, *, sync: bool = False) -> None:
        """Append all of ``lines``, or raise OSError and leave the file as it was; ``sync`` as in ``Storage.put``."""

    def sync(self) -> None:
        """Make what was appended survive a power failure. Raises OSError."""

    def close(self) -> None:
        """Close the file."""


class Storage(Protocol):
    """Files by name."""

    def put(self, name: str, *, keep: str | None = None, sync: bool = True) -> AbstractContextManager[BinaryIO]:
        """Open a file for writing that replaces ``name`` whole when the block ends, and not at all if it raises.

        The file that it replaces is kept as ``keep``, if given; at any moment one of the two names has it. With
        ``sync`` the new file survives a power failure. Raises OSError.
        """

    def create(self, name: str, content: bytes) -> None:
        """Write a new file. Raises FileExistsError if there is one of that name: of two programs one succeeds."""

    def append(self, name: str) -> Log:
        """Open a file of whole lines to append to, made if absent; a partial line that a kill left is removed."""

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading at any position. Raises FileNotFoundError."""

    def list(self, folder: str = "") -> list[Stored]:
        """Return the files of ``folder`` and all below it, sorted by name; none if there is no such folder."""

    def where(self, name: str) -> str:
        """Return the path or address of a file, for messages."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
