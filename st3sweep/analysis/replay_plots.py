"""Plot replays of early stopping: hypervolume over compute, from the output of ``st3sweep replay --json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from st3sweep.analysis.axes import wrapped
from st3sweep.analysis.figures import PAGE, new_figure, put_legend, styled

_STYLES = {"ramp_pareto": ("#0072b2", "-"), "residual": ("#de8f05", "--"), "asha": ("#cc78bc", ":")}


@styled
def plot_replays(runs: Mapping[str, Sequence[Mapping[str, Any]]], width: float = PAGE) -> Figure:
    """Plot hypervolume of the finished trials over compute: a panel for each run, a line for each rule.

    ``runs``: title → the objects of ``st3sweep replay RUN --json``. A sweep with early stopping has tried all trials
    before it has spent the compute of all; its line ends there. Grey: the same trials and orders, none stopped.
    """
    figure, panels = new_figure(width, 2.4, panels=len(runs), columns=3 if len(runs) in (3, 5, 6) else 2)
    for axes, (title, replays) in zip(panels, runs.items(), strict=True):
        _draw(axes, replays)
        axes.set(title=title, xlabel="compute, relative to all trials", ylabel="hypervolume, relative")
    put_legend(figure, panels, below=True)
    figure.suptitle(wrapped("Replays of early stopping: hypervolume of the front over compute", width))
    return figure


def _draw(axes: Axes, replays: Sequence[Mapping[str, Any]]) -> None:
    curve = replays[0]["curve"]
    axes.plot(curve["compute"], curve["random"], color="0.55", linewidth=1.8, label="no early stopping")
    for replay in replays:
        name, curve = (replay.get("early_stopping") or replay["scheduler"])["name"], replay["curve"]
        color, line = _STYLES.get(name, ("0.2", "-."))
        spent = 1 - replay["compute_saved"]["mean"]
        shown = [(x, y) for x, y in zip(curve["compute"], curve["stopping"], strict=True) if x <= spent + 0.025]
        axes.plot(*zip(*shown, strict=True), color=color, linestyle=line, linewidth=1.2, label=name)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set(xlim=(0, 1), ylim=(0.5, 1.01))
