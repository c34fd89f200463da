"""Read sparsities of a model's layers from a CSV file with columns ``layer`` and ``sparsity``; ``*`` is the rest."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from st3sweep.util.errors import Problem, SpecError, UserError, near_match

REST = "*"
_COLUMNS = ("layer", "sparsity")


def read_layer_budget(path: Path, layers: Sequence[str]) -> dict[str, float]:
    """Return the sparsity, 0 to 1, of each of ``layers`` that the file at ``path`` names, or all if it has a row ``*``.

    Raises UserError where the file cannot be read, SpecError with all its errors.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a CSV file in UTF-8"
        raise UserError(f"{path}: {reason}") from None
    if not rows or sorted(rows[0][1]) != sorted(_COLUMNS):
        found = ",".join(rows[0][1]) if rows else "an empty file"
        raise SpecError(
            [_problem(path, rows[0][0] if rows else 1, "", f"must begin with: layer,sparsity (got {found})")]
        )
    at = [rows[0][1].index(column) for column in _COLUMNS]
    found_at: dict[str, int] = {}
    given: dict[str, float] = {}
    problems: list[Problem] = []
    for line, cells in rows[1:]:
        if len(cells) != len(_COLUMNS):
            problems.append(
                _problem(
                    path,
                    line,
                    "",
                    f"must have a layer and a sparsity (got {len(cells)} cell{'s' if len(cells) > 1 else ''})",
                )
            )
            continue
        layer, text = cells[at[0]], cells[at[1]]
        message = _wrong_layer(layer, layers) or _wrong_sparsity(text)
        if message is None and layer in found_at:
            message = f"is given already, in line {found_at[layer]}"
        if message is not None:
            problems.append(_problem(path, line, layer, message))
            continue
        found_at[layer], given[layer] = line, float(text)
    if problems:
        raise SpecError(problems)
    rest = given.pop(REST, None)
    return given if rest is None else {**dict.fromkeys(layers, rest), **given}


def _wrong_layer(layer: str, layers: Sequence[str]) -> str | None:
    if layer in layers or layer == REST:
        return None
    return f"is no conv or linear layer of the model{near_match(layer, layers) or f'; it has {_some(layers)}'}"


def _some(layers: Sequence[str]) -> str:
    return ", ".join(layers) if len(layers) <= 8 else f"{', '.join(layers[:3])}, … {layers[-1]} ({len(layers)} layers)"


def _wrong_sparsity(text: str) -> str | None:
    try:
        sparsity = float(text)
    except ValueError:
        sparsity = math.nan
    if 0.0 <= sparsity <= 1.0:
        return None
    percent = f"; {text} % is {sparsity / 100:g}" if 1.0 < sparsity <= 100.0 else ""
    return f"sparsity must be a fraction from 0 to 1{percent} (got {text or 'nothing'})"


def _problem(path: Path, line: int, layer: str, message: str) -> Problem:
    return Problem(str(path), line, None, layer, message)
