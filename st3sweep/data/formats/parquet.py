"""Images in Parquet files: a column ``img`` or ``image`` (struct with ``bytes``) and a column of integer labels."""

from __future__ import annotations

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
    """One row: its number over all files, the words that name it, and an Arrow scalar."""

    id: int
    what: str
    data: Any

    def bytes(self) -> bytes:
        """The encoded image; BadImage where the row has none."""
        data: bytes | None = self.data.as_py()
        if data is None:
            raise BadImage("data.root", f"{self.what} has no bytes")
        return data


@dataclass(frozen=True)
class ParquetImages:
    """The rows of ``files`` one after the other; ``starts`` has one entry more than ``files``."""

    files: list[Path]
    starts: NDArray[np.int64]
    image_columns: list[str]
    labels: NDArray[np.int64]

    def encoded(self) -> Iterator[Encoded]:
        """Every row in order. Memory holds some hundred of them at a time, however large the files are."""
        for file, start, column in zip(self.files, self.starts.tolist(), self.image_columns, strict=False):
            row = 0
            for batch in pq.ParquetFile(file).iter_batches(_ROWS, columns=[f"{column}.bytes"]):
                for data in pc.struct_field(batch.column(0), "bytes"):
                    yield Encoded(start + row, f"row {row} of {file}", data)
                    row += 1

    def pixels(
        self, ids: NDArray[np.int64], size: int, *, resize: bool, bad: dict[int, str] | None = None
    ) -> NDArray[np.uint8]:
        """Rows ``ids`` decoded, (len(ids), 3, size, size); an image of another size is an error unless ``resize``.

        A row that is no image is an error too, unless there is ``bad`` to note it in: it is then black.
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
        """``pixels`` and the ``ids`` that they are of: all, or where bad images are to be skipped the others."""
        bad: dict[int, str] | None = {} if skip else None
        pixels = self.pixels(ids, size, resize=resize, bad=bad)
        left = good(ids, bad or {}, split)
        return (pixels if len(left) == len(ids) else pixels[np.isin(ids, left)]), left

    def source(self, make: Callable[[bytes, str], NDArray[np.uint8]]) -> Source:
        """What a pack is made from: ``make`` gets the bytes of each row and the words that name it."""
        return Source(self.labels, lambda: (partial(_made, make, row) for row in self.encoded()))


def _made(make: Callable[[bytes, str], NDArray[np.uint8]], row: Encoded) -> NDArray[np.uint8]:
    return make(row.bytes(), row.what)


def find(root: Path, split: str) -> list[Path]:
    """Parquet files of ``split`` (train, test or val) in ``root`` and one folder below, by name; may be none."""
    every = sorted({*root.glob("*.parquet"), *root.glob("*/*.parquet")})
    return [path for path in every if _split_of(path, root) == split]


def unlabelled(file: Path, label_columns: Sequence[str]) -> bool:
    """Whether every label is -1: so the hub publishes a test set whose labels are held back."""
    try:
        schema = pq.read_schema(file)
        name = next((name for name in label_columns if name in schema.names), None)
        column = pq.ParquetFile(file).read(columns=[name]).column(0) if name else None
    except (pa.ArrowException, OSError):  # open_files will say what is wrong with it
        return False
    return column is not None and len(column) > 0 and pc.all(pc.equal(column, -1)).as_py() is True


def _split_of(path: Path, root: Path) -> str | None:
    """What the file's name says, or else its folder's: a test file in ``training_data/`` stays a test file."""
    names = [path.name] if path.parent == root else [path.name, path.parent.name]
    return next((split for name in names for split in _SPLITS if split in name.lower()), None)


def open_files(files: list[Path], label_columns: Sequence[str]) -> ParquetImages:
    """Checks the columns and reads the labels; DataError names the file and what it lacks."""
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
