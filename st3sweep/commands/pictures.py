"""Check the file of ``--plot`` before any work, and write a figure to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from st3sweep.reporting.console import warn
from st3sweep.util.errors import UserError


def check_picture(path: Path | None) -> None:
    """Raise UserError, before any work, unless matplotlib can write ``path``; it renames a file without a suffix."""
    if path is None:
        return
    from matplotlib.backend_bases import FigureCanvasBase

    allowed = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix.lower().removeprefix(".") not in allowed:
        raise UserError(f"--plot {path}: must end in one of .{', .'.join(allowed)}")


def save_picture(figure: Any, path: Path) -> None:
    """Write ``figure`` to ``path`` and print that to stderr. Raises UserError where it cannot be written."""
    from st3sweep.analysis import plots

    try:
        plots.save(figure, path)
    except OSError as error:
        raise UserError(f"--plot {path}: cannot be written ({error.strerror})") from None
    warn(f"plot: {path}")
