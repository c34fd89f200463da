"""Summarise trainings epoch by epoch: the ramp, accuracy and cost on the way, and how much the masks still move."""

from __future__ import annotations

import pandas as pd

MEASURES = ("ratio", "threshold", "sparsity", "gflops", "gflops_final", "val_top1", "flip_rate", "mismatch", "lr")


def training_curves(epochs: pd.DataFrame, trials: pd.DataFrame, by: str = "method") -> pd.DataFrame:
    """Summarise the epochs of the trials that are equal in column ``by``: a row for each group, measure and epoch.

    Columns: group; measure, one of ``MEASURES`` (as in ``runs.tables.EPOCHS``; ratio is the sparsity that the ramp
    sets); epoch; trials that reached it; median, and low and high, the quartiles. A measure that a group has nowhere is
    left out. threshold is the mean over a model's weights; that of each layer at the best epoch is in
    ``layer_profiles``.

    Raises ValueError if ``trials`` has no column ``by``.
    """
    if by not in trials:
        raise ValueError(f"by={by!r}: no such column; the table has {', '.join(map(str, trials.columns))}")
    keys = [key for key in ("run", "trial") if key in epochs and key in trials]
    names = trials[keys].assign(group=trials[by].astype("string").fillna("unknown"))
    joined = epochs.merge(names, on=keys)
    known = [measure for measure in MEASURES if measure in joined]
    long = joined.melt(["group", "epoch"], known, "measure", "value").dropna(subset=["value"])
    groups = long.astype({"value": float}).groupby(["group", "measure", "epoch"], observed=True)["value"]
    table = groups.agg(trials="size", median="median").reset_index()
    for name, share in (("low", 0.25), ("high", 0.75)):
        table[name] = groups.quantile(share).to_numpy()
    return table
