"""Plot replays of early stopping: hypervolume over compute, from the output of ``st3sweep replay --json``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from st3sweep.analysis.axes import new_figure

_STYLES = {"ramp_pareto": ("#0072b2", "-"), "residual": ("#de8f05", "--"), "asha": ("#cc78bc", ":")}


def plot_replays(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Plot hypervolume of the finished trials over compute: a panel for each run, a line for each rule.

    ``runs``: title → the objects of ``st3sweep replay RUN --json``. A sweep with early stopping has tried all trials
    before it has spent the compute of all; its line ends there. Grey: the same trials and orders, none stopped.
    """
    columns = 2 if len(runs) == 4 else min(len(runs), 3)
    rows = math.ceil(len(runs) / columns)
    figure, panels = new_figure(4.6 * columns, 4.2 * rows, rows=rows, columns=columns)
    for axes, (title, replays) in zip(panels, runs.items(), strict=False):
        _draw(axes, replays)
        axes.set(title=title, xlabel="compute, relative to all trials")
    for axes in panels[::columns]:
        axes.set_ylabel("hypervolume, relative to all trials")
    for axes in panels[len(runs) :]:
        axes.set_axis_off()
    panels[len(runs) - 1].legend(loc="lower right")
    return figure


def _draw(axes: Axes, replays: Sequence[Mapping[str, Any]]) -> None:
    curve = replays[0]["curve"]
    axes.plot(curve["compute"], curve["random"], color="0.55", linewidth=2.5, label="no early stopping")
    for replay in replays:
        name, curve = (replay.get("early_stopping") or replay["scheduler"])["name"], replay["curve"]
        color, line = _STYLES.get(name, ("0.2", "-."))
        spent = 1 - replay["compute_saved"]["mean"]
        shown = [(x, y) for x, y in zip(curve["compute"], curve["stopping"], strict=True) if x <= spent + 0.025]
        axes.plot(*zip(*shown, strict=True), color=color, linestyle=line, linewidth=1.8, label=name)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set(xlim=(0, 1), ylim=(0.5, 1.01))
