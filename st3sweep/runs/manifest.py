"""What the tables of a run hold so far: their parts, the part of the ledger that is in them, and the state after it.

A folder ``tables`` has a folder for each table with numbered parts, which are appended to by writing them whole, and
``index``, whose parts have a line of JSON for each trial that was over. The manifest is written last: what parts hold
beyond their rows in the manifest does not count, and is written again.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from st3sweep.util.storage.interface import Storage

FOLDER = "tables"
MANIFEST = f"{FOLDER}/manifest.json"
INDEX = "index"
VERSION = 1
TRIALS_PER_BLOCK = 500  # parts say of which blocks of trials they have rows
_CHECKED = 4096  # last bytes of the ledger that must be those that the tables were written from


@dataclass
class Part:
    """A file with rows of a table: its first ``rows`` count."""

    name: str
    rows: int
    blocks: list[int]  # numbers of the trials in it // TRIALS_PER_BLOCK


@dataclass
class Manifest:
    """State of the tables. ``parts`` are in the order in which their rows arrived."""

    ledger_bytes: int = 0
    ledger_lines: int = 0
    ledger_check: int = 0
    compacted: bool = False  # whether the files of the run's folder have all of it
    run: dict[str, Any] = field(default_factory=dict)  # ``Ledger.facts``
    open: list[dict[str, Any]] = field(default_factory=list)  # trials that are not over, as ``Trial.packed``
    more: dict[str, list[str]] = field(default_factory=dict)  # columns of own metrics, by table
    parts: dict[str, list[Part]] = field(default_factory=dict)  # by table

    def fits(self, storage: Storage, ledger: str) -> bool:
        """Return whether the file ``ledger`` begins with the events that the tables were written from."""
        return checked(storage, ledger, self.ledger_bytes) == self.ledger_check

    def remove(self, storage: Storage) -> None:
        """Remove the manifest: the tables in parts no longer count."""
        storage.remove(MANIFEST)

    def write(self, storage: Storage) -> None:
        """Replace the manifest. Raises OSError."""
        with storage.put(MANIFEST) as file:
            file.write(json.dumps({"version": VERSION, **asdict(self)}, ensure_ascii=False).encode())

    def rows(self, table: str) -> int:
        """Return the number of rows of a table."""
        return sum(part.rows for part in self.parts.get(table, []))

    def with_trials(self, table: str, numbers: Iterable[int]) -> list[Part]:
        """Return the parts that may have rows of the trials."""
        wanted = {number // TRIALS_PER_BLOCK for number in numbers}
        return [part for part in self.parts.get(table, []) if wanted.intersection(part.blocks)]

    def epochs_of(self, storage: Storage, numbers: list[int]) -> dict[int, dict[int, dict[str, Any]]]:
        """Return the records of the trials' epochs, by trial and epoch; nulls are left out. Raises as ``read_part``."""
        found: dict[int, dict[int, dict[str, Any]]] = {number: {} for number in numbers}
        if numbers:
            from st3sweep.runs.parts import rows_of  # pyarrow: seldom needed

            for row in rows_of(storage, self, "epochs", numbers):
                record = {name: value for name, value in row.items() if value is not None and name != "trial"}
                found[row["trial"]][row["epoch"]] = record
        return found


def checked(storage: Storage, ledger: str, size: int) -> int:
    """Return a checksum of the last bytes of the first ``size`` of a file, -1 if it has fewer."""
    start = max(0, size - _CHECKED)
    with storage.open(ledger) as file:
        file.seek(start)
        content = file.read(size - start)
    return zlib.crc32(content) if len(content) == size - start else -1


def read_manifest(storage: Storage) -> Manifest | None:
    """Return the manifest; None if there is none, it is damaged, or another version wrote it."""
    try:
        with storage.open(MANIFEST) as file:
            found = json.load(file)
        if found.pop("version") != VERSION:
            return None
        found["parts"] = {table: [Part(**part) for part in parts] for table, parts in found["parts"].items()}
        return Manifest(**found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def read_index(storage: Storage, manifest: Manifest) -> Iterator[dict[str, Any]]:
    """Yield what is known of trials that were over, in that order: of a promoted one the last counts.

    Raises OSError and ValueError for a damaged part.
    """
    for part in manifest.parts.get(INDEX, []):
        with storage.open(part.name) as file:
            lines = file.read().splitlines()[: part.rows]
        if len(lines) < part.rows:
            raise ValueError(f"{part.name}: has {len(lines)} of {part.rows} lines")
        yield from map(json.loads, lines)
