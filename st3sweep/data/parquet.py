"""Images in Parquet files: a column ``img`` or ``image`` (struct with ``bytes``) and a column of integer labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from st3sweep.data import decode
from st3sweep.data.records import DataError

IMAGE_COLUMNS = ("img", "image")
_SPLITS = ("train", "test", "val")


@dataclass(frozen=True)
class ParquetImages:
    """The rows of ``files`` one after the other; ``starts`` has one entry more than ``files``."""

    files: list[Path]
    starts: NDArray[np.int64]
    image_columns: list[str]
    labels: NDArray[np.int64]

    def pixels(self, ids: NDArray[np.int64], size: int, *, resize: bool) -> NDArray[np.uint8]:
        """Rows ``ids`` decoded, (len(ids), 3, size, size); an image of another size is an error unless ``resize``."""
        images = np.empty((len(ids), 3, size, size), dtype=np.uint8)
        for index, file in enumerate(self.files):
            here = np.flatnonzero((ids >= self.starts[index]) & (ids < self.starts[index + 1]))
            if len(here):
                rows = ids[here] - self.starts[index]
                images[here] = _decode(file, self.image_columns[index], rows, size, resize=resize)
        return images


def find(root: Path, split: str) -> list[Path]:
    """Parquet files of ``split`` (train, test or val) in ``root`` and one folder below, by name; may be none."""
    every = sorted({*root.glob("*.parquet"), *root.glob("*/*.parquet")})
    return [path for path in every if _split_of(path, root) == split]


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


def _decode(file: Path, column: str, rows: NDArray[np.int64], size: int, *, resize: bool) -> NDArray[np.uint8]:
    encoded = pc.struct_field(pq.ParquetFile(file).read(columns=[f"{column}.bytes"]).column(0), "bytes")

    def image(index: int) -> NDArray[np.uint8]:
        row = int(rows[index])
        data = encoded[row].as_py()
        if data is None:
            raise DataError("data.root", f"row {row} of {file} has no bytes in column {column}")
        return decode.square(data, size, resize=resize, what=f"row {row} of {file}")

    return decode.decode_all(image, len(rows), size)
