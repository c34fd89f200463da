"""Fit random forests to a run's trials: how its objectives depend on what the search chose.

A forest is drawn for each bootstrap sample of the trials and judged on the trials that the sample left out. Besides the
searched settings it gets a shuffled copy of each, which can mean nothing: what the copies reach by chance is the noise
that a setting has to exceed (the shadows of Kursa and Rudnicki, Feature Selection with the Boruta Package, 2010).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from st3sweep.analysis.fronts import OBJECTIVES, Objectives, searched

Floats = NDArray[np.float64]

MIN_TRIALS = 20  # fewer cannot be told from noise; see docs/results.md
AT_EQUAL_COST = " at equal gflops"
_TREES = 20  # of one forest
_MAX_ROWS = 1000  # of one bootstrap sample: more cost time and change little
_FENCE = 3.0  # interquartile ranges beyond the quartiles at which values are clipped


@dataclass(frozen=True)
class Forest:
    """One random forest; ``held_out`` are the rows of ``Forests.inputs`` that it has not seen."""

    trees: list[Any]  # sklearn.tree._tree.Tree
    held_out: NDArray[np.int64]
    shadows: Floats  # (rows, columns): the shuffled copies that it was given

    def predict(self, inputs: Floats) -> Floats:
        """Return the mean of the trees, (n,), for (n, 2 × columns): ``inputs`` beside shadows."""
        rows = inputs.astype(np.float32)
        values: Floats = np.mean([tree.predict(rows)[:, 0] for tree in self.trees], axis=0)
        return values


@dataclass(frozen=True)
class Forests:
    """Forests of one measure: ``inputs`` (n, columns) of the settings, ``values`` (n,) of the measure.

    ``of`` names the measure; ``columns`` maps a setting to its columns of ``inputs``: one of a number, one a level of a
    choice. ``settings`` holds the values as the search chose them, a column a setting. ``why_none`` says why no forest
    was fitted, if so.
    """

    of: str
    settings: pd.DataFrame
    columns: dict[str, list[int]]
    inputs: Floats
    values: Floats
    forests: list[Forest]
    why_none: str = ""


def fit_forests(
    trials: pd.DataFrame, objectives: Objectives = OBJECTIVES, forests: int = 20, seed: int = 0
) -> list[Forests]:
    """Fit forests to each objective, and to the first one at equal gflops if gflops is the other.

    Takes the finished trials of the search, without replicates. The measure at equal gflops is ``residual``. Values far
    off (collapsed trials) are clipped to three interquartile ranges beyond the quartiles, else they alone would count.

    With fewer than 20 trials, than five a setting, or without spread in the measure, no forest is fitted, and
    ``why_none`` says so. Raises ValueError if ``forests`` is below 2.
    """
    if forests < 2:
        raise ValueError(f"forests must be 2 or more, to have a spread, but got {forests}")
    rows = searched(trials)
    measures = {column: rows[column].to_numpy(dtype=float, na_value=np.nan) for column, _ in objectives}
    first = objectives[0][0]
    if first != "gflops" and "gflops" in measures:
        cost = measures["gflops"]
        # Where no forest is fitted the trials are only counted: scikit-learn need not be loaded.
        few = np.where(cost > 0, measures[first], np.nan)
        measures[first + AT_EQUAL_COST] = few if len(rows) < MIN_TRIALS else residual(measures[first], cost)
    chosen = chosen_settings(rows)
    return [_fit(of, chosen, values, forests, seed) for of, values in measures.items()]


def chosen_settings(trials: pd.DataFrame) -> pd.DataFrame:
    """Return what the search chose for each trial: a column a setting that varies, NaN where it does not apply.

    Numbers are floats; all else (words, booleans, lists) is text.
    """
    found = pd.DataFrame([json.loads(text) if isinstance(text, str) else {} for text in trials["params"]])
    found.index = trials.index
    table = {}
    for name in found:
        values = found[name]
        if not all(_is_number(value) for value in values.dropna()):
            values = values.map(_as_text, na_action="ignore")
        if values.nunique(dropna=False) > 1:
            table[str(name)] = values
    return pd.DataFrame(table, index=trials.index)


def residual(values: Floats, gflops: Floats) -> Floats:
    """Return by how much each value is above what is usual at its cost, (n,); NaN where one is unknown or cost is 0.

    The usual value is a spline of three quadratic pieces over log gflops, fitted with Huber's loss, to which collapsed
    trials mean little; with fewer than 30 trials a straight line.
    """
    found = np.full(len(values), np.nan)
    known = np.isfinite(values) & np.isfinite(gflops) & (gflops > 0)
    if known.sum() < 3 or len(np.unique(gflops[known])) < 2:
        return found
    from sklearn.linear_model import HuberRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import SplineTransformer, StandardScaler

    x, y = np.log(gflops[known])[:, None], values[known]
    scale = float(np.std(y)) or 1.0
    curved = known.sum() >= 30 and len(np.unique(x)) >= 8
    basis = SplineTransformer(4, degree=2, knots="quantile", include_bias=False) if curved else StandardScaler()
    usual = make_pipeline(basis, HuberRegressor(alpha=1e-4, max_iter=1000)).fit(x, y / scale)
    found[known] = y - scale * usual.predict(x)
    return found


def _fit(of: str, chosen: pd.DataFrame, values: Floats, count: int, seed: int) -> Forests:
    known = np.isfinite(values)
    settings, values = chosen[known], _clipped(values[known])
    inputs, columns = _encoded(settings)
    why = ""
    if len(columns) == 0:
        why = "no setting varies"
    elif len(values) < (needed := max(MIN_TRIALS, 5 * len(columns))):
        why = f"too few trials: {len(values)} of the {needed} needed for {len(columns)} settings"
    elif np.ptp(values) == 0:
        why = f"{of} does not vary"
    fitted = [] if why else [_forest(inputs, values, (seed, number)) for number in range(count)]
    return Forests(of, settings, columns, inputs, values, fitted, why)


def _forest(inputs: Floats, values: Floats, seed: tuple[int, int]) -> Forest:
    from sklearn.ensemble import RandomForestRegressor

    random = np.random.default_rng(seed)
    size = len(values)
    sample = random.integers(size, size=min(size, _MAX_ROWS))
    held_out = np.setdiff1d(np.arange(size), sample)
    if len(held_out) > _MAX_ROWS:
        held_out = random.choice(held_out, _MAX_ROWS, replace=False)
    shadows = inputs[random.permutation(size)]
    model = RandomForestRegressor(_TREES, min_samples_leaf=2, random_state=int(random.integers(2**31)), n_jobs=1)
    model.fit(np.hstack([inputs, shadows])[sample], values[sample])
    return Forest([tree.tree_ for tree in model.estimators_], held_out, shadows)


def _encoded(settings: pd.DataFrame) -> tuple[Floats, dict[str, list[int]]]:
    """Return (n, columns) of numbers, NaN where a number does not apply, and the columns of each setting."""
    parts: list[Floats] = []
    columns: dict[str, list[int]] = {}
    for name in settings:
        values = settings[name]
        if pd.api.types.is_numeric_dtype(values):
            block = values.to_numpy(dtype=float)[:, None]
        else:
            block = np.stack([(values == level).to_numpy(float) for level in sorted(values.dropna().unique())], axis=1)
        start = sum(part.shape[1] for part in parts)
        columns[str(name)] = list(range(start, start + block.shape[1]))
        parts.append(block)
    return np.hstack(parts) if parts else np.empty((len(settings), 0)), columns


def _clipped(values: Floats) -> Floats:
    if not len(values):
        return values
    low, high = np.quantile(values, (0.25, 0.75))
    reach = _FENCE * (high - low) if high > low else np.inf
    return np.clip(values, low - reach, high + reach)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool | np.bool_)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
