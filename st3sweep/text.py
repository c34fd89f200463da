"""Tables as text."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def aligned(rows: Sequence[Sequence[str]], left: Collection[int] = ()) -> str:
    """``rows``, a line each, columns two blanks apart: those numbered in ``left`` flush left, others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    put = [str.ljust if column in left else str.rjust for column in range(len(widths))]
    return "\n".join(
        "  ".join(flush(cell, width) for flush, cell, width in zip(put, row, widths, strict=True)).rstrip()
        for row in rows
    )
