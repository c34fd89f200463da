"""Statistics over seeds: means of replicated trials, and the probability that a trial belongs on the front."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from st3sweep.analysis.fronts import finished, is_replicate, searched

Floats = NDArray[np.float64]

AVERAGED = ("val_top1", "test_top1", "val_top5", "test_top5", "sparsity", "gflops", "training_gflops", "wall_seconds")

# Quadrature of a normal density: points in standard deviations, and weights that sum to 1.
_Z = np.linspace(-6.0, 6.0, 241)
_WEIGHTS = np.exp(-0.5 * _Z**2) / np.exp(-0.5 * _Z**2).sum()


def means(rows: pd.DataFrame, same: list[str], metric: str) -> pd.DataFrame:
    """Compute, for each group of ``rows`` equal in ``same``: seeds, mean, standard_error, half_width of ``metric``.

    seeds is the number of rows, standard_error that of the mean, half_width that of its 95 % interval by Student's t;
    both are NaN for one seed.
    """
    from scipy.special import stdtrit  # takes half a second to load, at the end of every run

    groups = rows.groupby(same, as_index=False)
    table = groups.agg(seeds=(metric, "size"), mean=(metric, "mean"), standard_error=(metric, "sem"))
    return table.assign(half_width=stdtrit(table["seeds"] - 1, 0.975) * table["standard_error"])


def over_seeds(trials: pd.DataFrame, metric: str = "val_top1") -> pd.DataFrame:
    """Return the finished trials of the search with the columns of ``means``, over each and its finished replicates.

    A trial of a front was selected by its original seed, which is included: the mean is still biased upwards, but less.
    """
    rows = finished(trials)
    keys = [key for key in ("run", "trial") if key in rows]
    if not is_replicate(rows).any():
        found = searched(trials).reset_index(drop=True)
        return found.assign(seeds=1, mean=found[metric].astype(float), standard_error=np.nan, half_width=np.nan)
    if "replicate_of" in rows:
        rows = rows.assign(trial=rows["replicate_of"].fillna(rows["trial"]).astype("int64"))
    return searched(trials).merge(means(rows, keys, metric), on=keys)


def average_seeds(trials: pd.DataFrame) -> pd.DataFrame:
    """Merge finished trials that differ only in their seed: the first one's row, with means of ``AVERAGED``.

    For a space that searches the seed. Fronts and figures take the rows as trials.
    """
    rows = finished(trials)
    how = {column: "mean" if column in AVERAGED else "first" for column in rows if column != "digest"}
    return rows.groupby("digest", as_index=False, sort=False).agg(how)


def front_probability(members: pd.DataFrame, table: pd.DataFrame) -> pd.Series:
    """Compute the probability that no other trial dominates each of ``members``, rows of ``table = over_seeds(...)``.

    A trial's true accuracy is modelled as normal around its mean over n seeds, with standard deviation s / sqrt(n), and
    its cost as exact. s is shared, pooled from the trials with replicates. With φ and Φ of the normal distribution, m
    the means, e the standard deviations and j every other trial that costs no more:

        P_i = ∫ φ(z) ∏_j Φ((m_i + e_i z - m_j) / e_j) dz

    Raises ValueError if no trial has a replicate.
    """
    error = pooled_deviation(table) / np.sqrt(table["seeds"].to_numpy())
    mean, cost = table["mean"].to_numpy(), table["gflops"].to_numpy()
    places = table.index.get_indexer(members.index)
    found = [_unbeaten(int(place), mean, error, cost) for place in places]
    return pd.Series(found, index=members.index, dtype=float)


def _unbeaten(i: int, mean: Floats, error: Floats, cost: Floats) -> float:
    from scipy.special import ndtr

    rivals = (cost <= cost[i]) & np.isfinite(mean)
    rivals[i] = False
    ahead = (mean[i] + error[i] * _Z)[:, None] - mean[rivals]  # (z, rivals)
    return float(_WEIGHTS @ ndtr(ahead / error[rivals]).prod(axis=1))


def pooled_deviation(table: pd.DataFrame) -> float:
    """Compute the pooled standard deviation of one seed's accuracy, in percent, from ``table = over_seeds(...)``.

    Raises ValueError if no trial has a replicate.
    """
    repeated = table[table["seeds"] > 1]
    if repeated.empty:
        raise ValueError("the deviation between seeds needs replicates, but no trial has one")
    freedom = repeated["seeds"] - 1
    variance = (freedom * repeated["seeds"] * repeated["standard_error"] ** 2).sum() / freedom.sum()
    return max(float(np.sqrt(variance)), 1e-9)  # above 0: also identical seeds must give finite z-scores
