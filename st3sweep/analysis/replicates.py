"""Compare methods over the same seeds: means, paired differences, and their confidence intervals."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from st3sweep.analysis.axes import style_of, wrapped
from st3sweep.analysis.figures import NARROW, PAGE, new_figure, styled
from st3sweep.analysis.fronts import finished
from st3sweep.analysis.seeds import means
from st3sweep.util.text import counted

_SAME = ["method", "sparsity_target"]


def replicates(trials: pd.DataFrame, metric: str = "test_top1") -> pd.DataFrame:
    """Average over the seeds: a row for each method at each target sparsity, of its finished trials.

    Columns: method, sparsity_target, those of ``seeds.means`` for ``metric``, and the mean gflops. Trials of one
    group must share a recipe: raises ValueError for a repeated seed. Trials whose target is a budget are left out.
    """
    rows = finished(trials)
    if (twice := rows.duplicated([*_SAME, "seed"])).any():
        raise ValueError(f"seed {rows[twice]['seed'].iloc[0]} is repeated: these trials differ in more than their seed")
    costs = rows.groupby(_SAME, as_index=False)["gflops"].mean()
    table = means(rows, _SAME, metric).merge(costs, on=_SAME)
    return table.sort_values(["sparsity_target", "mean"], ascending=[True, False], ignore_index=True)


def paired_difference(trials: pd.DataFrame, better: str, worse: str, metric: str = "test_top1") -> pd.DataFrame:
    """Compute the mean of ``better`` minus ``worse`` (methods) over their shared seeds, at each target sparsity.

    Columns: sparsity_target and those of ``seeds.means``.
    """
    columns = finished(trials).pivot(index=["sparsity_target", "seed"], columns="method", values=metric)
    difference = (columns[better] - columns[worse]).dropna().rename("difference").reset_index()
    return means(difference, ["sparsity_target"], "difference")


@styled
def plot_replicates(trials: pd.DataFrame, metric: str = "test_top1", width: float = PAGE) -> Figure:
    """Plot a panel for each target sparsity: every seed a point, the mean with its 95 % interval beside them.

    Methods are sorted by their means over all panels.
    """
    table, rows = replicates(trials, metric), finished(trials)
    order = table.groupby("method")["mean"].mean().sort_values(ascending=False).index
    targets = sorted(table["sparsity_target"].unique())
    columns = 2 if len(targets) in (2, 4) else 3
    upright = len(order) > 4 * width / (1 if width < NARROW else columns) / 2.4
    figure, panels = new_figure(width, 2.6, panels=len(targets), columns=columns)
    for axes, target in zip(panels, targets, strict=True):
        here = table[table["sparsity_target"] == target].set_index("method")
        group = here.reindex([method for method in order if method in here.index]).reset_index()
        for place, (_, row) in enumerate(group.iterrows()):
            color, marker = style_of(row["method"], order)
            own = rows[(rows["sparsity_target"] == target) & (rows["method"] == row["method"])]
            axes.scatter([place] * len(own), own[metric], s=10, linewidths=0, color=color, marker=marker, alpha=0.5)
            interval = {"yerr": row["half_width"], "fmt": "_", "markersize": 8, "capsize": 2}
            axes.errorbar(place + 0.2, row["mean"], color=color, **interval)
        names = [name if upright else name.replace(" ", "\n") for name in group["method"]]
        axes.set_xticks(range(len(group)), names, rotation=90 if upright else 0)
        axes.set_xlim(-0.5, len(group) - 0.3)
        axes.set_title(f"{100 * target:g} % sparsity")
        axes.tick_params(axis="x", labelsize="small")
        axes.set_ylabel({"val_top1": "validation top-1 (%)", "test_top1": "test top-1 (%)"}.get(metric, metric))
    words = f"{counted(len(order), 'method')} over {counted(rows['seed'].nunique(), 'seed')}"
    figure.suptitle(wrapped(f"{words}: every seed, and the mean with its 95 % interval", width))
    return figure
