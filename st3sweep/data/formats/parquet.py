"""Read images from Parquet files: a column ``img`` or ``image`` (struct with ``bytes``) and one of integer labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from st3sweep.data.bad_images import good
from st3sweep.data.decode import noting, square
from st3sweep.data.pack.sources import Source
from st3sweep.data.records import BadImage, DataError
from st3sweep.data.threads import in_order

IMAGE_COLUMNS = ("img", "image")
_ROWS = 64  # read at a time
_SPLITS = ("train", "test", "val")


class Encoded(NamedTuple):
    """One row: its number over all files, its name in error messages, and the encoded image as an Arrow scalar."""

    id: int
    what: str
    data: Any

    def bytes(self) -> bytes:
        """Return the encoded image. Raises BadImage if the row has none."""
        data: bytes | None = self.data.as_py()
        if data is None:
            raise BadImage("data.root", f"{self.what} has no bytes")
        return data


@dataclass(frozen=True)
class ParquetImages:
    """The rows of ``files`` in order; file i holds rows ``starts[i]`` to ``starts[i + 1]`` - 1."""

    files: list[Path]
    starts: NDArray[np.int64]
    image_columns: list[str]
    labels: NDArray[np.int64]

    def encoded(self) -> Iterator[Encoded]:
        """Yield every row in order, with about a hundred of them in memory however large the files are."""
        for file, start, column in zip(self.files, self.starts.tolist(), self.image_columns, strict=False):
            row = 0
            for batch in pq.ParquetFile(file).iter_batches(_ROWS, columns=[f"{column}.bytes"]):
                for data in pc.struct_field(batch.column(0), "bytes"):
                    yield Encoded(start + row, f"row {row} of {file}", data)
                    row += 1

    def pixels(
        self, ids: NDArray[np.int64], size: int, *, resize: bool, bad: dict[int, str] | None = None
    ) -> NDArray[np.uint8]:
        """Decode rows ``ids`` to (len(ids), 3, size, size). Raises DataError for another size unless ``resize``.

        Raises BadImage for an unreadable image, or, with ``bad``, notes it there and leaves it black.
        """
        images = np.zeros((len(ids), 3, size, size), dtype=np.uint8)
        places = dict(zip(ids.tolist(), range(len(ids)), strict=True))

        def decode_one(row: Encoded) -> None:
            image = noting(bad, row.id, lambda: square(row.bytes(), size, resize=resize, what=row.what))
            if image is not None:
                images[places[row.id]] = image

        for _ in in_order(partial(decode_one, row) for row in self.encoded() if row.id in places):
            pass
        return images

    def readable(
        self, ids: NDArray[np.int64], size: int, split: str, *, resize: bool, skip: bool
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return ``pixels`` and their ``ids``, with ``skip`` without the bad images."""
        bad: dict[int, str] | None = {} if skip else None
        pixels = self.pixels(ids, size, resize=resize, bad=bad)
        left = good(ids, bad or {}, split)
        return (pixels if len(left) == len(ids) else pixels[np.isin(ids, left)]), left

    def source(self, make: Callable[[bytes, str], NDArray[np.uint8]]) -> Source:
        """Return the source of a pack: ``make`` gets the bytes and the name of each row."""
        return Source(self.labels, lambda: (partial(_made, make, row) for row in self.encoded()))


def _made(make: Callable[[bytes, str], NDArray[np.uint8]], row: Encoded) -> NDArray[np.uint8]:
    return make(row.bytes(), row.what)


def find(root: Path, split: str) -> list[Path]:
    """Find the Parquet files of ``split`` (train, test or val) in ``root`` and one folder below, sorted; may be []."""
    every = sorted({*root.glob("*.parquet"), *root.glob("*/*.parquet")})
    return [path for path in every if _split_of(path, root) == split]


def unlabelled(file: Path, label_columns: Sequence[str]) -> bool:
    """Whether every label is -1, as the Hugging Face hub marks test sets with withheld labels."""
    try:
        schema = pq.read_schema(file)
        name = next((name for name in label_columns if name in schema.names), None)
        column = pq.ParquetFile(file).read(columns=[name]).column(0) if name else None
    except (pa.ArrowException, OSError):  # open_files will say what is wrong with it
        return False
    return column is not None and len(column) > 0 and pc.all(pc.equal(column, -1)).as_py() is True


def _split_of(path: Path, root: Path) -> str | None:
    """Return the split that the file's name contains, or else its folder's: ``training_data/test.parquet`` is test."""
    names = [path.name] if path.parent == root else [path.name, path.parent.name]
    return next((split for name in names for split in _SPLITS if split in name.lower()), None)


def open_files(files: list[Path], label_columns: Sequence[str]) -> ParquetImages:
    """Check the columns and read the labels. Raises DataError naming the file and what it lacks."""
    labels, image_columns = [], []
    for file in files:
        try:
            schema = pq.read_schema(file)
            image_columns.append(_image_column(file, schema))
            labels.append(_labels(file, schema, label_columns))
        except (pa.ArrowException, OSError) as error:
            raise DataError("data.root", f"cannot read {file} as Parquet: {error}") from error
    starts = np.cumsum([0, *map(len, labels)])
    if starts[-1] == 0:
        raise DataError("data.root", f"no rows in {', '.join(map(str, files))}")
    return ParquetImages(files, starts, image_columns, np.concatenate(labels))


def class_names(file: Path, label_columns: Sequence[str]) -> tuple[str, ...] | None:
    """Return the names of the labels that the library datasets keeps in the file's metadata; None where it has none."""
    try:
        stored = (pq.read_schema(file).metadata or {}).get(b"huggingface", b"{}")
        features = json.loads(stored)["info"]["features"]
        names = next(features[column]["names"] for column in label_columns if column in features)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, StopIteration):
        return None
    return tuple(map(str, names))


def _image_column(file: Path, schema: Any) -> str:
    for name in IMAGE_COLUMNS:
        if name in schema.names:
            kind = schema.field(name).type
            if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
                return name
    raise _no_column(file, schema, f"{' or '.join(IMAGE_COLUMNS)} that is a struct with bytes")


def _labels(file: Path, schema: Any, names: Sequence[str]) -> NDArray[np.int64]:
    name = next((name for name in names if name in schema.names), None)
    if name is None or not pa.types.is_integer(schema.field(name).type):
        raise _no_column(file, schema, f"{' or '.join(names)} of whole numbers")
    column = pq.ParquetFile(file).read(columns=[name]).column(0)
    if column.null_count:
        raise DataError("data.root", f"column {name} of {file} has {column.null_count} rows without a label")
    labels: NDArray[np.int64] = column.to_numpy().astype(np.int64)
    if len(labels) and labels.min() < 0:
        row = int(labels.argmin())
        raise DataError("data.root", f"label {labels[row]} in row {row} of {file}; labels count from 0")
    return labels


def _no_column(file: Path, schema: Any, wanted: str) -> DataError:
    there = ", ".join(f"{field.name} ({field.type})" for field in schema)
    return DataError("data.root", f"{file} has no column {wanted}; it has {there}")
