"""Say where models put their weights, layer by layer: those of the front, its neighbours, and the others."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from st3sweep.analysis.fronts import OBJECTIVES, Objectives, mark_front, searched

Floats = NDArray[np.float64]

GROUPS = ("front", "neighbours", "others")
PROFILES = [
    "group", "layer", "position", "trials", "density", "density_low", "density_high", "relative", "relative_low",
    "relative_high", "weights_share", "macs_share", "threshold", "dead_channels",
]  # fmt: skip


def below_front(trials: pd.DataFrame, objectives: Objectives = OBJECTIVES) -> pd.DataFrame:
    """Return the finished trials of the search with ``on_front`` and ``below_front``: how far they are behind it.

    ``below_front`` is in the unit of the first objective: what the best trial that costs no more (in the second one)
    has more of it, or less where less is better; 0 on the front, NaN where a value is missing.

    Raises ValueError unless there are two objectives.
    """
    if len(objectives) != 2:
        raise ValueError(f"two objectives are needed, but got {len(objectives)}")
    rows = searched(mark_front(trials, objectives))
    gains, costs = (
        (1 if goal == sign else -1) * rows[column].to_numpy(dtype=float, na_value=np.nan)
        for (column, goal), sign in zip(objectives, ("max", "min"), strict=True)
    )
    behind = np.full(len(rows), np.nan)
    known = np.flatnonzero(np.isfinite(gains) & ~np.isnan(costs))
    order = known[np.argsort(costs[known], kind="stable")]
    last = np.searchsorted(costs[order], costs[order], "right") - 1  # of equal cost
    behind[order] = np.maximum.accumulate(gains[order])[last] - gains[order]
    return rows.assign(below_front=behind)


def layer_profiles(
    layers: pd.DataFrame, trials: pd.DataFrame, objectives: Objectives = OBJECTIVES, within: float = 1.0
) -> pd.DataFrame:
    """Compute where the models of three groups keep their weights: a row for each group and layer, in forward order.

    Groups: the front; its neighbours, at most ``within`` units of the first objective (points of accuracy) behind it;
    the others. Only trials with a weight to prune count, and dense models, of which every layer is full, do not.

    Columns, medians over the trials of the group, with quartiles as _low and _high: density of the layer; relative, the
    layer's density over its model's, so that models of different sparsity compare; weights_share and macs_share, the
    layer's fraction of the model's non-zero weights and of its multiply-accumulates; threshold (NaN where the method
    has none) and dead_channels. trials counts those of the group.

    Raises ValueError if the trials are of several models, whose layers differ.
    """
    if len(models := sorted(trials["model"].dropna().unique())) > 1:
        raise ValueError(f"layers of one model compare, but got {', '.join(models)}")
    rows = below_front(trials, objectives)
    group = np.where(rows["on_front"], GROUPS[0], np.where(rows["below_front"] <= within, GROUPS[1], GROUPS[2]))
    keys = [key for key in ("run", "trial") if key in layers and key in rows]
    joined = _with_shares(layers, keys).merge(rows.assign(group=group)[[*keys, "group"]], on=keys)
    joined = joined[(joined["model_density"] > 0) & (joined["model_density"] < 1)]
    by = joined.groupby(["group", "position", "layer"])
    table = by.agg(
        trials=("density", "size"),
        density=("density", "median"),
        density_low=("density", _lower),
        density_high=("density", _upper),
        relative=("relative", "median"),
        relative_low=("relative", _lower),
        relative_high=("relative", _upper),
        weights_share=("weights_share", "median"),
        macs_share=("macs_share", "median"),
        threshold=("threshold", "median"),
        dead_channels=("dead_channels", "median"),
    ).reset_index()
    places = table["group"].map({name: place for place, name in enumerate(GROUPS)})
    order = np.lexsort((table["position"], places))
    return table.iloc[order][PROFILES].reset_index(drop=True)


def _with_shares(layers: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Add what each layer has of its model: ``relative`` density, shares of weights and multiply-accumulates."""
    table = layers.assign(kept=layers["numel"] * layers["density"])
    sums = table.groupby(keys)[["kept", "numel", "macs"]].transform("sum")
    density = sums["kept"] / sums["numel"]
    return table.assign(
        model_density=density,
        relative=table["density"] / density,
        weights_share=table["kept"] / sums["kept"],
        macs_share=table["macs"] / sums["macs"],
    )


def _lower(values: pd.Series) -> float:
    return float(values.quantile(0.25))


def _upper(values: pd.Series) -> float:
    return float(values.quantile(0.75))
