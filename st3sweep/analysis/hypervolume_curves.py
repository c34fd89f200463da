"""Follow the hypervolume of runs while they run: over wall time, and over the compute of their trainings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from st3sweep.analysis.axes import wrapped
from st3sweep.analysis.figures import PAGE, new_figure, put_legend, styled
from st3sweep.analysis.fronts import OBJECTIVES, front_hypervolume, searched
from st3sweep.analysis.tables import load_trials, run_labels
from st3sweep.pareto import hypervolume, pareto_mask
from st3sweep.runs.ledger import LEDGER, Ledger
from st3sweep.util.errors import ResultsError
from st3sweep.util.text import counted, flops_unit

COLUMNS = ["run", "trial", "status", "wall_seconds", "training_gflops", "hypervolume", "gflops_dense"]
_COMPUTE = (("EFLOPs", 1e9), ("PFLOPs", 1e6), ("TFLOPs", 1e3), ("GFLOPs", 1.0))  # and how many GFLOPs each is
_GOALS = [goal for _, goal in OBJECTIVES]


def hypervolume_curves(*runs: Path | str, reference: tuple[float, float] | None = None) -> pd.DataFrame:
    """Compute the hypervolume of each run's front after each of its trials: a row for each trial that is over.

    Columns: run; trial; status; wall_seconds since the run's start, without the time between its sessions;
    training_gflops, the sum over all trials that were over by then, those stopped early and replicates included (a
    trial that reused another run's result costs nothing, nor does a failed one, whose training was not counted);
    hypervolume in percent × GFLOPs, and gflops_dense of the model. ``reference`` is as in ``fronts.front_hypervolume``:
    by default 0 % at the cost of the dense model. Times are from the ledger, the rest from the table of trials.

    Raises ResultsError if a run has no ledger, and ValueError if the runs have several dense costs.
    """
    trials = load_trials(*runs)
    front_hypervolume(trials, reference)  # raises ValueError if one reference does not fit all
    dense = float(trials["gflops_dense"].max())
    corner = (0.0, dense) if reference is None else reference
    curves = [
        _curve(trials[trials["run"] == label], _ends(Path(run)), corner).assign(gflops_dense=dense)
        for label, run in run_labels(runs).items()
    ]
    return pd.concat(curves, ignore_index=True)[COLUMNS]


@styled
def plot_hypervolume(*runs: Path | str, width: float = PAGE) -> Figure:
    """Plot the hypervolume of runs of one model, a line each: over wall time, and over the compute of training.

    A mark ends each line. The axis begins where the runs have a tenth of their trials: before that the front grows
    fastest, and would hide the differences later on.
    """
    curves = hypervolume_curves(*runs)
    figure, panels = new_figure(width, 2.6, panels=2)
    unit, scale = flops_unit(float(curves["gflops_dense"].max()) if len(curves) else 1.0)
    seconds = float(curves["wall_seconds"].max()) if len(curves) else 0.0
    time, per = ("hours", 3600.0) if seconds >= 7200 else ("minutes", 60.0) if seconds >= 120 else ("seconds", 1.0)
    _draw(panels[0], curves, "wall_seconds", 1 / per, scale)
    compute = float(curves["training_gflops"].max()) if len(curves) else 0.0
    work, of = next((one for one in _COMPUTE if compute >= one[1]), _COMPUTE[-1])
    _draw(panels[1], curves, "training_gflops", 1 / of, scale)
    panels[0].set(xlabel=f"wall time ({time})", ylabel=f"hypervolume (% × {unit})")
    panels[1].set(xlabel=f"multiply-accumulates of all trainings ({work})")
    panels[1].sharey(panels[0])
    put_legend(figure, panels, below=True)
    runs_drawn = counted(curves["run"].nunique(), "run")
    figure.suptitle(wrapped(f"Hypervolume of the front over time and over compute: {runs_drawn}", width))
    return figure


def _draw(axes: Axes, curves: pd.DataFrame, column: str, x_scale: float, y_scale: float) -> None:
    colors = sns.color_palette("colorblind", max(1, curves["run"].nunique()))
    shown = []
    for color, (name, rows) in zip(colors, curves.groupby("run", sort=False), strict=False):
        x, y = (x_scale * rows[column]).tolist(), (y_scale * rows["hypervolume"]).tolist()
        axes.step([0.0, *x], [0.0, *y], where="post", color=color, linewidth=1.2, label=name)
        axes.plot(x[-1], y[-1], color=color, marker="o", markersize=3)
        shown += y[len(y) // 10 :]
    low, high = min(shown, default=0.0), max(shown, default=1.0)
    margin = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    axes.set_ylim(max(0.0, low - margin), high + margin)


def _ends(run: Path) -> dict[int, float]:
    """Return the wall seconds at which each trial of ``run`` was over."""
    if not (run / LEDGER).is_file():
        raise ResultsError(f"{run / LEDGER}: not found; the times of trials are in it")
    trials = Ledger(run, read_only=True).trials.values()
    return {trial.number: trial.ended for trial in trials if trial.ended is not None}


def _curve(trials: pd.DataFrame, ends: dict[int, float], reference: tuple[float, float]) -> pd.DataFrame:
    rows = trials[trials["trial"].isin(list(ends))]
    rows = rows.assign(wall_seconds=rows["trial"].map(ends)).sort_values(["wall_seconds", "trial"])
    compute = rows["training_gflops"].where(rows["reused_from"].isna(), 0.0).fillna(0.0).cumsum()
    counts = rows["trial"].isin(searched(trials)["trial"]).tolist()
    points = rows[[column for column, _ in OBJECTIVES]].to_numpy(dtype=float, na_value=np.nan)
    best, area, areas = np.empty((0, 2)), 0.0, []
    for point, count in zip(points, counts, strict=True):
        if count and not np.isnan(point).any():
            grown = np.vstack([best, point])
            mask = pareto_mask(grown, _GOALS)
            if mask[-1]:  # else the front, and so its hypervolume, stay as they are
                best = grown[mask]
                area = hypervolume(best, _GOALS, reference)
        areas.append(area)
    return rows.assign(training_gflops=compute, hypervolume=areas)
