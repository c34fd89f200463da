"""Load published points: the package's own, and those of a CSV file of the same columns.

Only this module converts them: from percent and millions of multiply-accumulates to fractions and gflops.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import IO, Any

import pandas as pd

from st3sweep.util.errors import Problem, UserError, near_match

PUBLISHED_COLUMNS = ["model", "dataset", "method", "test_top1", "sparsity", "gflops", "source", "remark"]
_IN_FILE = ["model", "dataset", "method", "top1", "sparsity", "mmacs", "source", "remark"]
# What a number may be, in words and as a test; only mmacs may be empty.
_ALLOWED = {
    "top1": ("percent, 0 to 100", lambda value: 0 <= value <= 100),
    "sparsity": ("percent, 0 or more and below 100", lambda value: 0 <= value < 100),
    "mmacs": ("millions of multiply-accumulates, above 0, or empty if unknown", lambda value: 0 < value < math.inf),
}


def published(
    model: str | None = None,
    dataset: str | None = None,
    more: Path | str | Iterable[Path | str] | None = None,
) -> pd.DataFrame:
    """Load the published points, optionally of one model and dataset; empty if there are none.

    ``more`` is one or several CSV files with the columns of the package's own (``published/README.md``), whose rows
    come after these. Columns: model, dataset, method, test_top1 in percent, sparsity (a fraction), gflops (NaN where no
    cost was published), source, remark ("" or why the row is suspect).

    Raises UserError, which names file, line, column and value, for a file of ``more`` that cannot be read.
    """
    own = resources.files("st3sweep.analysis").joinpath("published", "points.csv")
    with own.open(encoding="utf-8") as file:
        rows = _rows(file, "published/points.csv")
    for path in [more] if isinstance(more, str | Path) else more or []:
        rows += _rows_of_file(Path(path))
    points = pd.DataFrame(rows, columns=_IN_FILE).rename(columns={"top1": "test_top1"})
    points = points.assign(sparsity=points["sparsity"] / 100, gflops=points["mmacs"] / 1000)
    for column, wanted in (("model", model), ("dataset", dataset)):
        if wanted is not None:
            points = points[points[column] == wanted]
    return points[PUBLISHED_COLUMNS].reset_index(drop=True)


def _rows_of_file(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _rows(file, str(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV file in UTF-8 ({error})") from None


def _rows(file: IO[str], name: str) -> list[dict[str, Any]]:
    reader = csv.DictReader(file, strict=True)
    _check_header(list(reader.fieldnames or []), name)
    return [_checked(row, name, reader.line_num) for row in reader]


def _check_header(columns: list[str], name: str) -> None:
    for column in columns:
        if column not in _IN_FILE:
            allowed = f"{near_match(column, _IN_FILE)}; allowed: {', '.join(_IN_FILE)}"
            raise UserError(str(Problem(name, 1, None, column, f"no such column{allowed}")))
        if columns.count(column) > 1:
            raise UserError(str(Problem(name, 1, None, column, "the column is there twice")))
    if missing := [column for column in _IN_FILE if column not in columns and column != "remark"]:
        raise UserError(str(Problem(name, 1, None, missing[0], f"column missing; needed: {', '.join(_IN_FILE[:-1])}")))


def _checked(row: dict[Any, Any], name: str, line: int) -> dict[str, Any]:
    """Return the row with numbers as floats. Raises UserError for a value that is not allowed."""
    if None in row:
        raise UserError(str(Problem(name, line, None, "", f"more values than columns: {', '.join(row[None])}")))
    values: dict[str, Any] = {}
    for column in _IN_FILE:
        text = (row.get(column) or "").strip()
        if column in _ALLOWED:
            values[column] = _number(text, column, name, line)
        elif text or column == "remark":
            values[column] = text
        else:
            raise UserError(str(Problem(name, line, None, column, "is empty; allowed: any text")))
    return values


def _number(text: str, column: str, name: str, line: int) -> float:
    if not text and column == "mmacs":
        return math.nan
    allowed, is_allowed = _ALLOWED[column]
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not is_allowed(value):
        raise UserError(str(Problem(name, line, None, column, f"{text!r} is not allowed; allowed: {allowed}")))
    return value
