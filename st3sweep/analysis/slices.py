"""Follow a measure along one setting, all others as the trials have them, and say what to search next."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from st3sweep.analysis.forests import Forests
from st3sweep.analysis.importance import importance
from st3sweep.pareto import Goal

Floats = NDArray[np.float64]

SLICES = ["of", "setting", "value", "level", "mean", "low", "high"]
ADVICE = ["setting", "searched", "best", "verdict", "advice"]
_GRID, _BACKGROUND = 12, 100  # values of a setting, and trials over which a prediction is averaged


def slices(fits: list[Forests]) -> pd.DataFrame:
    """Predict each measure along each setting: a row for each value, empty where no forest was fitted.

    The mean prediction over the trials if all had this value (partial dependence, Friedman, 2001): how the measure
    changes with the setting alone, as far as settings were chosen independently. Columns: of; setting; value, NaN for a
    choice; level, the value as text; mean over the forests, and low and high, where 95 % of them are. Values of a
    number are up to 12 quantiles of the trials'.
    """
    rows = [row for fit in fits if fit.forests for name in fit.columns for row in _slice(fit, name)]
    return pd.DataFrame(rows, columns=SLICES)


def advice(fits: list[Forests], goal: Goal = "max") -> pd.DataFrame:
    """Say for each setting what to search next, from the last of ``fits``: accuracy at equal cost, if it is there.

    Columns: setting; searched, the trials' values; best, those whose prediction cannot be told from the best one;
    verdict, as in ``importance``; advice:

    - "keep": it decides the cost, as the target sparsity does, and so the place on the front;
    - "narrow" to the best, or "widen" where the best value is the least or greatest searched: it matters;
    - "fix": these trials show no effect; "more trials": they show one that cannot be told from noise.

    The seed is left out.
    """
    fit = fits[-1]
    found, along = importance(fits), slices([fit])
    costs = found[(found["of"] == "gflops") & (found["verdict"] == "matters")]["setting"].tolist()
    sign = 1 if goal == "max" else -1
    rows = []
    for row in found[(found["of"] == fit.of) & (found["setting"] != "seed")].itertuples(index=False):
        values = along[along["setting"] == row.setting]
        searched = _range(fit.settings[row.setting])
        if values.empty:
            rows.append((row.setting, searched, "", row.verdict, "more trials"))
            continue
        top = values.iloc[int(np.argmax(sign * values["mean"]))]
        close = values[(values["high"] >= top["mean"]) if sign > 0 else (values["low"] <= top["mean"])]
        number = bool(pd.notna(top["value"]))
        at_edge = number and top["value"] in (values["value"].min(), values["value"].max())
        if row.setting in costs:
            word = "keep"
        elif row.verdict == "matters":
            word = "widen" if at_edge else "narrow"
        else:
            word = "fix" if len(close) == len(values) else "more trials"
        best = _range(close["value"]) if number else ", ".join(close["level"])
        rows.append((row.setting, searched, best, row.verdict, word))
    return pd.DataFrame(rows, columns=ADVICE)


def _slice(fit: Forests, name: str) -> list[tuple[object, ...]]:
    values, level = fit.settings[name], fit.columns[name]
    number = pd.api.types.is_numeric_dtype(values)
    own = np.unique(values.dropna().to_numpy(float)) if number else np.array(sorted(values.dropna().unique()))
    if number and len(own) > _GRID:
        own = np.quantile(values.dropna().to_numpy(float), np.linspace(0, 1, _GRID))
    applies = np.flatnonzero(values.notna().to_numpy())
    chosen = applies[np.linspace(0, len(applies) - 1, min(len(applies), _BACKGROUND)).astype(int)]
    predicted = []
    for forest in fit.forests:
        background = np.hstack([fit.inputs, forest.shadows])[chosen]
        points = np.tile(background, (len(own), 1))
        points[:, level] = np.repeat(own[:, None] if number else np.eye(len(own)), len(background), axis=0)
        predicted.append(forest.predict(points).reshape(len(own), -1).mean(axis=1))
    low, high = np.quantile(predicted, (0.025, 0.975), axis=0)
    mean = np.mean(predicted, axis=0)
    return [
        (fit.of, name, float(value) if number else np.nan, f"{value:.4g}" if number else str(value), *map(float, curve))
        for value, curve in zip(own, zip(mean, low, high, strict=True), strict=True)
    ]


def _range(values: pd.Series) -> str:
    known = values.dropna()
    if pd.api.types.is_numeric_dtype(known):
        low, high = f"{known.min():.3g}", f"{known.max():.3g}"
        return low if low == high else f"{low} to {high}"
    return ", ".join(sorted(known.unique()))
