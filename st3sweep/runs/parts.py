"""Write and read tables in numbered Parquet parts, and compact them into one file each.

The parts of a table have the same columns, so that pandas, pyarrow and DuckDB read their folder as one table. Rows of
epochs are in order of arrival, those of trials and layers in the order in which trials were over.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from st3sweep.runs.manifest import FOLDER, INDEX, TRIALS_PER_BLOCK, Manifest, Part
from st3sweep.runs.tables import SCHEMAS, as_arrow, own_columns, versioned
from st3sweep.util.storage.interface import Storage

ROWS_PER_PART = {"epochs": 20_000, "layers": 20_000, "trials": 1_000, INDEX: 1_000}
_ORDER = {"trials": ["trial"], "epochs": ["trial", "epoch"], "layers": ["trial"]}
Row = Mapping[str, Any]


def append_rows(storage: Storage, manifest: Manifest, name: str, rows: Sequence[Row]) -> None:
    """Append ``rows`` to table ``name``: to its last part, then to new ones. Changes ``manifest``; raises OSError."""
    if not rows:
        return
    more = manifest.more.setdefault(name, [])
    new = sorted(own_columns(name, rows) - set(more))
    more += new
    if new or _of_earlier_version(storage, manifest, name):
        for part in manifest.parts.get(name, []):
            _write(storage, name, part, as_arrow(name, read_part(storage, part).to_pylist(), more))
    parts, most = manifest.parts.setdefault(name, []), ROWS_PER_PART[name]
    start = 0
    while start < len(rows):
        grown = bool(parts) and parts[-1].rows < most
        room = most - parts[-1].rows if grown else most
        added = rows[start : start + room]
        table = as_arrow(name, added, more)
        if grown:
            table = pa.concat_tables([read_part(storage, parts[-1]), table])
        else:
            parts.append(Part(f"{FOLDER}/{name}/part-{len(parts):06d}.parquet", 0, []))
        _write(storage, name, parts[-1], table)
        parts[-1].rows = len(table)
        parts[-1].blocks = _blocks(parts[-1].blocks, added)
        start += len(added)


def append_lines(storage: Storage, manifest: Manifest, rows: Sequence[Row]) -> None:
    """Append ``rows`` to the index, as lines of JSON, likewise."""
    parts, start = manifest.parts.setdefault(INDEX, []), 0
    while start < len(rows):
        lines: list[bytes] = []
        if parts and parts[-1].rows < ROWS_PER_PART[INDEX]:
            with storage.open(parts[-1].name) as file:
                lines = file.read().splitlines()[: parts[-1].rows]
        else:
            parts.append(Part(f"{FOLDER}/{INDEX}/part-{len(parts):06d}.jsonl", 0, []))
        added = rows[start : start + ROWS_PER_PART[INDEX] - len(lines)]
        lines += [json.dumps(row, ensure_ascii=False).encode() for row in added]
        with storage.put(parts[-1].name) as file:
            file.write(b"\n".join(lines) + b"\n")
        parts[-1].rows = len(lines)
        start += len(added)


def drop_trials(storage: Storage, manifest: Manifest, name: str, numbers: Iterable[int]) -> None:
    """Remove the rows of trials from a table: they were promoted, and will be over again."""
    wanted = pa.array(sorted(numbers), pa.int64())
    for part in manifest.with_trials(name, wanted.to_pylist()):
        table = read_part(storage, part)
        kept = table.filter(pc.invert(pc.is_in(table["trial"], wanted)))
        if len(kept) < len(table):
            _write(storage, name, part, kept)
            part.rows = len(kept)


def read_part(storage: Storage, part: Part, columns: list[str] | None = None) -> pa.Table:
    """Return the rows of a part that count. Raises OSError and pyarrow.ArrowInvalid, a ValueError."""
    # In one thread: Arrow's thread pool may release a Python file only while Python shuts down, which aborts it.
    with storage.open(part.name) as file:
        return pq.ParquetFile(file).read(columns=columns, use_threads=False).slice(0, part.rows)


def rows_of(storage: Storage, manifest: Manifest, name: str, numbers: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield the rows of some trials in their order. Raises as ``read_part``."""
    wanted = pa.array(numbers, pa.int64())
    for part in manifest.with_trials(name, numbers):
        table = read_part(storage, part)
        yield from table.filter(pc.is_in(table["trial"], wanted)).to_pylist()


def read_sorted(storage: Storage, manifest: Manifest, name: str, further: Sequence[Row] = ()) -> Iterator[pa.Table]:
    """Yield a table in blocks of trials, sorted by trial, then epoch; ``further`` rows are in no part.

    So memory is bounded by a block's rows. Raises as ``read_part``.
    """
    more = sorted({*manifest.more.get(name, []), *own_columns(name, further)})
    parts = manifest.parts.get(name, [])
    for block in sorted({*(b for part in parts for b in part.blocks), *_blocks([], further)}):
        start, end = block * TRIALS_PER_BLOCK, (block + 1) * TRIALS_PER_BLOCK
        found = [as_arrow(name, [row for row in further if start <= row["trial"] < end], more)]
        for part in parts:
            if block in part.blocks:
                table = read_part(storage, part)
                inside = pc.and_(pc.greater_equal(table["trial"], start), pc.less(table["trial"], end))
                found.append(_with_columns(table.filter(inside), found[0].schema))
        table = pa.concat_tables(found)
        yield table.take(pc.sort_indices(table, sort_keys=[(column, "ascending") for column in _ORDER[name]]))


def compact(storage: Storage, manifest: Manifest, name: str, file_name: str, further: Sequence[Row] = ()) -> None:
    """Write a table sorted and whole into one file. Raises OSError, and as ``read_part``."""
    schema = as_arrow(name, [], sorted({*manifest.more.get(name, []), *own_columns(name, further)})).schema
    with (
        storage.put(file_name, sync=False) as file,  # the ledger has all of it
        pq.ParquetWriter(file, versioned(name, schema)) as writer,
    ):
        for table in read_sorted(storage, manifest, name, further):
            writer.write_table(table.cast(writer.schema))


def _with_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the table with the columns of ``schema``, in its order, null where it has none."""
    columns = [
        table[field.name] if field.name in table.column_names else pa.nulls(len(table), field.type) for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _of_earlier_version(storage: Storage, manifest: Manifest, name: str) -> bool:
    """Return whether the last part lacks a column that was added to the table since."""
    if not (parts := manifest.parts.get(name)):
        return False
    with storage.open(parts[-1].name) as file:
        return not set(SCHEMAS[name].names) <= set(pq.read_schema(file).names)


def _write(storage: Storage, name: str, part: Part, table: pa.Table) -> None:
    with storage.put(part.name) as file:
        pq.write_table(table.cast(versioned(name, table.schema)), file)


def _blocks(known: Iterable[int], rows: Iterable[Row]) -> list[int]:
    return sorted({*known, *(row["trial"] // TRIALS_PER_BLOCK for row in rows)})
