"""Read a table of prices, a CSV file that the user edits, and take the price of a device from it.

A row for each kind of GPU, by Ray's name, or ``CPU``, with the prices of an hour of one such device::

    accelerator,spot,on_demand,currency,region,date
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from st3sweep.util.errors import Problem, SpecError, UserError, near_match

Market = Literal["spot", "on_demand"]
CPU = "CPU"  # the kind of device of trials without a GPU
COLUMNS = ("accelerator", "spot", "on_demand", "currency", "region", "date")
_PRICES = ("spot", "on_demand")


@dataclass(frozen=True)
class Price:
    """The price of an hour of a device, and in words where it is from."""

    per_device_hour: float
    origin: str


def price_of(path: Path, kind: str, market: Market) -> Price:
    """Return the price of ``kind`` in the table at ``path``. Lines that begin with # are comments.

    Raises UserError where the file cannot be read or has no such row, SpecError with all its other errors.
    """
    rows = _rows(path)
    if kind not in rows:
        raise UserError(f"{path}: no row for {kind}{near_match(kind, rows)}; it has: {', '.join(rows) or 'none'}")
    line, row = rows[kind]
    if not row[market]:
        raise SpecError([Problem(str(path), line, None, market, f"is empty: {kind} has no such price")])
    about = ", ".join((kind, market.replace("_", " "), row["currency"], row["region"], row["date"]))
    return Price(float(row[market]), f"{about}; {path.name}:{line}")


def _rows(path: Path) -> dict[str, tuple[int, dict[str, str]]]:
    """Return the checked rows with their lines, by kind of device."""
    lines = _cells(path)
    line, header = lines[0] if lines else (1, [])
    if sorted(header) != sorted(COLUMNS):
        needed = f"must be the columns {','.join(COLUMNS)} (got {','.join(header) or 'an empty file'})"
        raise SpecError([Problem(str(path), line, None, "", needed)])
    rows: dict[str, tuple[int, dict[str, str]]] = {}
    problems: list[Problem] = []
    for line, cells in lines[1:]:
        if len(cells) != len(COLUMNS):
            problems.append(Problem(str(path), line, None, "", f"must have {len(COLUMNS)} cells (got {len(cells)})"))
            continue
        row = dict(zip(header, cells, strict=True))
        wrong = [(column, message) for column in COLUMNS if (message := _wrong(column, row[column]))]
        kind = row["accelerator"]
        if kind in rows:
            wrong.append(("accelerator", f"{kind} is given already, in line {rows[kind][0]}"))
        problems += [Problem(str(path), line, None, column, message) for column, message in wrong]
        rows.setdefault(kind, (line, row))
    if problems:
        raise SpecError(problems)
    return rows


def _cells(path: Path) -> list[tuple[int, list[str]]]:
    """Return the file's lines that are neither empty nor comments, with their numbers, as stripped cells."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            found = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a CSV file in UTF-8"
        raise UserError(f"{path}: {reason}") from None
    return [(line, cells) for line, cells in found if not cells[0].startswith("#")]


def _wrong(column: str, text: str) -> str | None:
    """Return what is wrong with a value; None for a right one."""
    if column not in _PRICES:
        return None if text else "is empty; allowed: any text"
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isfinite(value) and value > 0:
        return None
    return f"must be a number above 0, or empty (got {text!r})"
