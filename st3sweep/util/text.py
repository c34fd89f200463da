"""Format tables, costs and counts as text, and values as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any


def aligned(rows: Sequence[Sequence[str]], left: Collection[int] = ()) -> str:
    """Format ``rows`` as lines, columns two blanks apart: those numbered in ``left`` flush left, others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    put = [str.ljust if column in left else str.rjust for column in range(len(widths))]
    return "\n".join(
        "  ".join(flush(cell, width) for flush, cell, width in zip(put, row, widths, strict=True)).rstrip()
        for row in rows
    )


def flops_unit(gflops: float) -> tuple[str, float]:
    """Return the unit in which a cost of this size reads best, and how many of it make one GFLOP."""
    return ("MFLOPs", 1000.0) if gflops < 0.1 else ("GFLOPs", 1.0)


def format_flops(gflops: float, of: float | None = None) -> str:
    """Format a cost in GFLOPs or MFLOPs by its size, or by the size of its total ``of``: 4.1 of 40.8 MFLOPs."""
    unit, scale = flops_unit(gflops if of is None else of)
    digits = 3 if of is None else 4
    whole = "" if of is None else f" of {scale * of:.{digits}g}"
    return f"{scale * gflops:.{digits}g}{whole} {unit}"


def counted(number: float, noun: str) -> str:
    """Return the number with its noun: 1 trial, 2 trials, 0.5 GPUs."""
    shown = f"{number:g}" if isinstance(number, float) else f"{number:,}"
    return f"{shown} {noun}{'' if number == 1 else 's'}"


def format_bytes(count: float) -> str:
    """Format a number of bytes with three digits in the unit that suits its size: 950 B, 1.24 MB, 51.8 TB."""
    for unit in ("B", "kB", "MB", "GB"):
        if float(f"{count:.3g}") < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.0f} TB" if count >= 1000 else f"{count:.3g} TB"


def json_line(value: Any) -> str:
    """Return ``value`` as one line of JSON; numbers that are not finite, which JSON cannot express, become null."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(_without_nan(value), ensure_ascii=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(below) for below in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
