"""Size, style and legends of the figures: all are drawn with ``paper.mplstyle``, for a column or a page of a paper."""

from __future__ import annotations

import functools
import math
import textwrap
import warnings
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

COLUMN, PAGE = 3.3, 7.0  # inches
NARROW = 5.0  # below this width panels are stacked, and the legend is below them
FORMATS = ("png", "pdf", "svg")
BELOW = "below"  # identifies a legend that is below its panels
MANY = 5000  # points, above which those that cover each other are drawn once
_CELLS_PER_INCH = 100

P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Run ``draw`` with the style file, and leave matplotlib's settings as they were."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        with _style():
            return draw(*args, **kwargs)

    return drawn


def new_figure(
    width: float, height: float, panels: int = 1, columns: int = 2, narrow: int = 1
) -> tuple[Figure, list[Axes]]:
    """Create a figure of ``width`` inches with ``panels`` axes, each ``height`` high, in reading order.

    At most ``columns`` are side by side, and on a figure narrower than 5 inches ``narrow``. Raises ValueError for a
    width outside 2 to 40.
    """
    if not 2 <= width <= 40:
        raise ValueError(f"width must be 2 to 40 inches, but got {width:g}")
    panels = max(1, panels)
    across = min(narrow if width < NARROW else columns, panels)
    rows = math.ceil(panels / across)
    figure = Figure(figsize=(width, height * rows), layout="constrained")
    axes = list(figure.subplots(rows, across, squeeze=False).flat)
    for spare in axes[panels:]:
        spare.set_axis_off()
    return figure, axes[:panels]


def put_legend(figure: Figure, panels: Sequence[Axes], *, below: bool = False, title: str | None = None) -> None:
    """Draw one legend for the ``panels``: right of them, or below if asked or if the figure is narrow."""
    named: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(shortened(label), handle)
    if not named:
        return
    width = figure.get_figwidth()
    longest = max(len(line) for label in named for line in label.splitlines())
    if below or width < NARROW:
        columns = min(len(named), max(1, int(width / (0.35 + 0.058 * longest))))
        place: dict[str, Any] = {"loc": "outside lower center", "ncols": columns}
        lines = sum(sorted((1 + label.count("\n") for label in named), reverse=True)[: -(-len(named) // columns)])
        figure.set_figheight(figure.get_figheight() + 0.15 * lines)  # the panels keep their height
    else:
        room = figure.get_figheight() - 0.6
        place = {"loc": "outside right center", "ncols": 1 + int(0.16 * len(named) / room)}
    legend = figure.legend(list(named.values()), list(named), title=title, **place)
    legend.set_gid(BELOW if "lower" in place["loc"] else None)


def shortened(label: str, most: int = 40) -> str:
    """Cut a label of more than ``most`` characters: one long name must not take the place of the panels."""
    return label if max(map(len, label.splitlines() or [""])) <= most else f"{label[: most - 1]}…"


def put_note(figure: Figure, *notes: str) -> None:
    """Write ``notes``, those that are not empty, below the panels and the legend, each on lines of its own.

    Call it once, after ``put_legend``. The note is inside the figure, with its own room below the legend: below the
    figure, a legend that is placed at the edge of what is saved would cover it.
    """
    across = max(20, int(19 * figure.get_figwidth()))
    lines = [line for note in notes for line in textwrap.wrap(note, across)]
    if not lines:
        return
    height = 0.04 + 0.115 * len(lines)
    whole = figure.get_figheight() + height
    figure.set_figheight(whole)
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(rect=(0.0, height / whole, 1.0, 1 - height / whole))  # type: ignore[call-arg]
    for legend in figure.legends:
        if legend.get_gid() == BELOW:
            legend.borderaxespad += 72 * height / legend.prop.get_size_in_points()
    figure.text(0.01, 0.02 / whole, "\n".join(lines), fontsize="small", color="0.3", va="bottom")


def thin(x: ArrayLike, y: ArrayLike, axes: Axes) -> NDArray[np.int64]:
    """Return the indices of the points to draw: all, or of more than ``MANY`` one in each cell of 1/100 inch.

    Points outside the axes are left out then. Set limits and scales first. A marker covers many cells, so the picture
    is the same, but a million points are drawn in the time of some thousands.
    """
    places = np.column_stack([np.asarray(x, dtype=float), np.asarray(y, dtype=float)])
    if len(places) <= MANY:
        return np.arange(len(places))
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = axes.transLimits.transform(axes.transScale.transform(places))
    shown = np.flatnonzero(((inside >= -0.02) & (inside <= 1.02)).all(axis=1))
    figure = axes.get_figure()
    size = figure.get_size_inches() if isinstance(figure, Figure) else np.array([PAGE, PAGE])
    cells = (inside[shown] * size * _CELLS_PER_INCH).astype(np.int64)
    # One number a cell: sorting those is ten times as fast as sorting pairs.
    _, first = np.unique(cells[:, 0] * 1_000_003 + cells[:, 1], return_index=True)
    return shown[np.sort(first)]


@styled
def save(figure: Figure, path: Path | str) -> None:
    """Write ``figure`` to ``path``, in the format of its suffix (png, pdf, svg); makes its folder if needed."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    # No date in the file: the same run gives the same bytes.
    metadata: dict[str, dict[str, Any]] = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    figure.savefig(path, metadata=metadata.get(Path(path).suffix.lower()))


def _style() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mpl.MatplotlibDeprecationWarning)
        return mpl.rc_context(_settings())


@functools.cache
def _settings() -> mpl.RcParams:
    file = resources.files("st3sweep.analysis").joinpath("paper.mplstyle")
    with resources.as_file(file) as path:
        return mpl.rc_params_from_file(path, use_default_template=False)
