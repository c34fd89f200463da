"""Where a run that is kept in an object store has its local folder, and what of it the store holds.

The store has the run's files by their names in the folder, except for the ledger, whose parts are
``ledger.jsonl/000000`` and so on. The manifest, ``store.json``, is written last; each trial's files have a record of
their own (``trial_store``). Optuna's journal stays here: it follows from the ledger.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from st3sweep.runs.manifest import MANIFEST as TABLES_MANIFEST
from st3sweep.util.cache import cache_folder
from st3sweep.util.errors import UserError
from st3sweep.util.storage.atomic import atomic_write
from st3sweep.util.storage.objects import Objects

MARKER = ".store.json"  # in the local folder: which store it belongs to
HELD = ".stored.json"  # in the local folder, and in those of trials: what of it the store holds
MANIFEST = "store.json"
VERSION = 1
_SUFFIXES = {".yaml", ".json", ".parquet", ".html", ".png", ".pdf", ".svg", ".csv"}  # in the run's folder itself
_FOLDERS = ("tables", "figures")  # whole; ``trials`` is kept trial by trial, the study is rebuilt from the ledger


@dataclass
class StoreManifest:
    """What the store holds of a run, apart from trials' files. ``files``: bytes and CRC-32 by name."""

    lock: int = 1  # number of the latest lock when it was written
    part: int = 0  # number of the ledger's last part
    before: int = 0  # bytes of the ledger before it
    ledger_bytes: int = 0
    ledger_check: int = 0  # as of ``manifest.checked``
    files: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def read(cls, store: Objects) -> StoreManifest | None:
        """Return the store's manifest; None if there is none. Raises StoreError, and UserError for another version."""
        try:
            found = json.loads(store.read(MANIFEST))
        except FileNotFoundError:
            return None
        if found.pop("version", None) != VERSION:
            raise UserError(f"{store.url}/{MANIFEST}: was written by another version of st3sweep")
        return cls(**found)

    def write(self, store: Objects) -> None:
        """Replace the store's manifest. Raises StoreError."""
        store.write(MANIFEST, json.dumps({"version": VERSION, **asdict(self)}).encode())


def local_folder(url: str) -> Path:
    """Return the folder of a run kept at ``url``: below ``ST3SWEEP_CACHE``, or ``st3sweep`` in the user's cache.

    Raises UserError where there is neither.
    """
    scheme, _, rest = url.partition("://")
    try:
        return cache_folder() / "runs" / scheme / rest
    except FileNotFoundError as error:
        message = f"{url}: {error}; set the environment variable ST3SWEEP_CACHE to a folder for local copies of runs"
        raise UserError(message) from None


def store_of(folder: Path) -> str | None:
    """Return the address of the run whose local folder this is; None for a run that is kept in its folder."""
    found = read_json(folder / MARKER)
    return None if found is None else str(found["url"])


def files_of(folder: Path) -> Iterator[str]:
    """Yield the names of the files that the store is to have, without ledger and trials; the tables' manifest last."""
    for entry in sorted(os.scandir(folder), key=lambda one: one.name):
        if entry.is_file() and Path(entry.name).suffix in _SUFFIXES and not entry.name.startswith("."):
            yield entry.name
    for part in _FOLDERS:
        for path in sorted((folder / part).rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and not path.name.startswith(".") and name != TABLES_MANIFEST:
                yield name
    if (folder / TABLES_MANIFEST).is_file():
        yield TABLES_MANIFEST


def state(path: Path) -> list[int]:
    """Return what changes when a file is replaced: its size, time and inode. Raises FileNotFoundError."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ino]


def check_sum(path: Path) -> int:
    """Return the CRC-32 of a file."""
    total = 0
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            total = zlib.crc32(piece, total)
    return total


def download(store: Objects, name: str, path: Path) -> list[int]:
    """Replace ``path`` by an object of the store; return its bytes and CRC-32. Raises FileNotFoundError, StoreError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.bringing")
    try:
        store.download(name, part)
        found = [part.stat().st_size, check_sum(part)]
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return found


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the content of one of the local files above; None if it is absent or damaged."""
    try:
        return dict(json.loads(path.read_bytes()))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace one of the local files above."""
    with atomic_write(path, sync=False) as file:
        file.write(json.dumps(content).encode())
