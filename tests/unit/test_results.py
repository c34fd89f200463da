"""Test the Parquet tables: values and types survive, and what does not belong is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from st3sweep.runs.tables import SCHEMAS, ResultsError, read_table, table_path, write_table

VALUES: dict[pa.DataType, list[Any]] = {
    pa.int64(): [0, 2**53 + 1],
    pa.float64(): [0.1, float("nan")],
    pa.string(): ["ST-3σ", ""],
    pa.bool_(): [True, False],
}


def full_rows(name: str) -> list[dict[str, Any]]:
    """Return two rows of table ``name`` with a value in every column."""
    return [{field.name: VALUES[field.type][row] for field in SCHEMAS[name]} for row in range(2)]


def written(folder: Path, name: str, rows: list[dict[str, Any]]) -> pd.DataFrame:
    write_table(table_path(folder, name), name, rows)
    return read_table(folder, name)


@pytest.mark.parametrize("name", list(SCHEMAS))
def test_values_and_types_come_back(name: str, tmp_path: Path) -> None:
    table = written(tmp_path, name, full_rows(name))
    assert list(table.columns) == SCHEMAS[name].names
    for field in SCHEMAS[name]:
        for found, value in zip(table[field.name], VALUES[field.type], strict=True):
            assert found == value or (np.isnan(found) and np.isnan(value))
            assert isinstance(found, str) == pa.types.is_string(field.type)
    assert pq.read_schema(table_path(tmp_path, name)).equals(SCHEMAS[name])


@pytest.mark.parametrize("name", list(SCHEMAS))
def test_missing_values_are_null(name: str, tmp_path: Path) -> None:
    table = written(tmp_path, name, [{"trial": 3}])
    assert table["trial"].tolist() == [3]
    assert table.drop(columns="trial").isna().all(axis=None)


def test_integers_in_a_float_column_become_floats(tmp_path: Path) -> None:
    table = written(tmp_path, "trials", [{"trial": 0, "val_top1": 80}, {"trial": 1, "val_top1": 80.5}, {"trial": 2}])
    assert table["val_top1"].dtype == np.float64
    assert table["val_top1"].tolist()[:2] == [80.0, 80.5]
    assert written(tmp_path, "trials", [{"trial": 0, "val_top1": 80}])["val_top1"].dtype == np.float64


@pytest.mark.parametrize("name", list(SCHEMAS))
def test_an_empty_table_has_its_columns(name: str, tmp_path: Path) -> None:
    assert list(written(tmp_path, name, []).columns) == SCHEMAS[name].names


def test_an_unknown_column_is_refused(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"trial": 0}, {"trial": 1, "acuracy": 3.0}]
    with pytest.raises(ValueError, match=r"table trials has no column \['acuracy'\]"):
        write_table(table_path(tmp_path, "trials"), "trials", rows)
    assert not list(tmp_path.iterdir())


def test_a_value_of_another_type_is_refused_and_the_old_table_stays(tmp_path: Path) -> None:
    write_table(table_path(tmp_path, "trials"), "trials", [{"trial": 1}])
    with pytest.raises(pa.ArrowInvalid):
        write_table(table_path(tmp_path, "trials"), "trials", [{"trial": "two"}])
    assert read_table(tmp_path, "trials")["trial"].tolist() == [1]


def test_a_crash_while_writing_leaves_the_old_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_table(table_path(tmp_path, "trials"), "trials", [{"trial": 1}])

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", dies)
    with pytest.raises(KeyboardInterrupt):
        write_table(table_path(tmp_path, "trials"), "trials", [{"trial": 2}])
    assert read_table(tmp_path, "trials")["trial"].tolist() == [1]


@pytest.mark.parametrize(("metadata", "version"), [({"st3sweep.schema": "0"}, "0"), (None, "none")])
def test_another_schema_version_is_refused(tmp_path: Path, metadata: dict[str, str] | None, version: str) -> None:
    path = table_path(tmp_path, "trials")
    pq.write_table(pa.table({"trial": [1]}).replace_schema_metadata(metadata), path)
    with pytest.raises(ResultsError, match=rf"{path}: schema version {version}, but this st3sweep reads 3"):
        read_table(tmp_path, "trials")


def test_an_absent_or_unreadable_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"epochs\.parquet: not found"):
        read_table(tmp_path, "epochs")
    write_table(table_path(tmp_path, "epochs"), "epochs", full_rows("epochs"))
    content = table_path(tmp_path, "epochs").read_bytes()
    table_path(tmp_path, "epochs").write_bytes(content[: len(content) // 2])
    with pytest.raises(ResultsError, match=r"epochs\.parquet: not a readable Parquet file"):
        read_table(tmp_path, "epochs")
