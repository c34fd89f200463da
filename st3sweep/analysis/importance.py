"""Say which searched settings matter: for each objective, and for accuracy at equal cost; alone, and in pairs.

All from the forests of ``forests.fit_forests``. Every number has its spread over the forests, each of which has drawn
its own trials, and a verdict that compares it with what shuffled settings reach by chance.
"""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from st3sweep.analysis.forests import Forest, Forests

Floats = NDArray[np.float64]

IMPORTANCE = ["of", "setting", "importance", "low", "high", "above_noise", "r2", "trials", "verdict"]
INTERACTIONS = ["of", "first", "second", "importance", "low", "high", "above_noise", "trials", "verdict"]
_REPEATS, _PERMUTED = 5, 500  # permutations of a setting, averaged; fewer where there are more trials than this
_GRID, _BACKGROUND = 5, 32  # values of a setting, and trials over which an effect is averaged
_CONFIDENT = 0.95


def importance(fits: list[Forests]) -> pd.DataFrame:
    """Compute the importance of each setting for each measure: a row for each, the most important first.

    Permutation importance (Breiman, Random Forests, 2001) on trials that the forest has not seen: by how much its
    squared error grows when the setting's values are exchanged among the trials, as a fraction of the variance. 0: the
    setting tells nothing. Settings that act together share what they explain: the sum may exceed 1. Columns:

    - of, setting; importance, its mean over the forests; low and high, where 95 % of the forests are;
    - above_noise: fraction of the forests in which it exceeds all shuffled copies of settings;
    - r2: mean fraction of the variance of unseen trials that the forests explain, 0 or less if nothing; trials;
    - verdict: "matters" (above_noise is 0.95 or more, and r2 above 0), "cannot be told" or why no forest was fitted.

    "cannot be told" does not say that a setting has no effect: only that these trials do not show one.
    """
    rows = [row for fit in fits for row in _rows_of_one(fit)]
    return _ranked(pd.DataFrame(rows, columns=IMPORTANCE), fits)


def interactions(fits: list[Forests], settings: int = 5) -> pd.DataFrame:
    """Compute for pairs of the ``settings`` most important settings how much they act together, for each measure.

    The variance of the part of the forest's function that depends on both and is no sum of one of each (functional
    ANOVA, Hutter, Hoos and Leyton-Brown, 2014, over the trials' values), as a fraction of the variance of the measure.
    Columns as in ``importance``, with first and second for setting; noise is that of pairs with shuffled settings.
    """
    found = importance(fits)
    rows = []
    for fit in fits:
        names = found[found["of"] == fit.of]["setting"].tolist()[:settings]
        pairs = list(itertools.combinations(names, 2))
        if not fit.forests:
            rows += [(fit.of, *pair, *[np.nan] * 4, len(fit.values), fit.why_none) for pair in pairs]
        elif pairs:
            drawn = [_pair_effects(fit, forest, names, pairs) for forest in fit.forests]
            own, noise = np.array([one for one, _ in drawn]), np.array([other for _, other in drawn])
            summary = _summaries(own, noise, True)
            rows += [
                (fit.of, *pair, *row[:4], len(fit.values), row[4]) for pair, row in zip(pairs, summary, strict=True)
            ]
    return _ranked(pd.DataFrame(rows, columns=INTERACTIONS), fits)


def _ranked(table: pd.DataFrame, fits: list[Forests]) -> pd.DataFrame:
    """Sort by measure, in the order of ``fits``, then by importance."""
    places = table["of"].map({fit.of: number for number, fit in enumerate(fits)})
    order = np.lexsort((-table["importance"].to_numpy(float), places.to_numpy(int)))
    return table.iloc[order].reset_index(drop=True)


def _rows_of_one(fit: Forests) -> list[tuple[object, ...]]:
    trials = len(fit.values)
    if not fit.forests:
        return [(fit.of, name, *[np.nan] * 5, trials, fit.why_none) for name in fit.columns]
    drawn = [_permuted(fit, number) for number in range(len(fit.forests))]
    own, noise = np.array([one for one, _, _ in drawn]), np.array([other for _, other, _ in drawn])
    r2 = float(np.mean([explained for _, _, explained in drawn]))
    summary = _summaries(own, noise, r2 > 0)
    return [(fit.of, name, *row[:4], r2, trials, row[4]) for name, row in zip(fit.columns, summary, strict=True)]


def _summaries(own: Floats, noise: Floats, explains: bool) -> list[tuple[float, float, float, float, str]]:
    """Return mean, low, high, above_noise and verdict of each column of ``own`` (forests, n) against ``noise``."""
    above = (own > noise.max(axis=1, keepdims=True)).mean(axis=0)
    low, high = np.quantile(own, (0.025, 0.975), axis=0)
    verdicts = ["matters" if explains and share >= _CONFIDENT else "cannot be told" for share in above]
    values = zip(own.mean(axis=0), low, high, above, verdicts, strict=True)
    return [(float(mean), float(a), float(b), float(share), verdict) for mean, a, b, share, verdict in values]


def _permuted(fit: Forests, number: int) -> tuple[Floats, Floats, float]:
    """Return one forest's importances of the settings and of their shuffled copies, and its R² on unseen trials."""
    forest = fit.forests[number]
    random = np.random.default_rng(number)
    rows, width = forest.held_out, fit.inputs.shape[1]
    both = np.hstack([fit.inputs, forest.shadows])[rows]
    groups = [columns for shift in (0, width) for columns in ([shift + c for c in own] for own in fit.columns.values())]
    repeats = max(1, min(_REPEATS, _REPEATS * _PERMUTED // len(rows)))
    blocks = [both]
    for columns in groups:
        for _ in range(repeats):
            block = both.copy()
            block[:, columns] = both[random.permutation(len(rows))][:, columns]
            blocks.append(block)
    predicted = forest.predict(np.vstack(blocks)).reshape(len(blocks), len(rows))
    errors = ((predicted - fit.values[rows]) ** 2).mean(axis=1)
    variance = float(np.var(fit.values))
    grown = (errors[1:].reshape(len(groups), repeats).mean(axis=1) - errors[0]) / variance
    return grown[: len(fit.columns)], grown[len(fit.columns) :], 1 - float(errors[0]) / variance


def _pair_effects(
    fit: Forests, forest: Forest, names: list[str], pairs: list[tuple[str, str]]
) -> tuple[Floats, Floats]:
    """Return the interaction of each pair, and of each setting with the shuffled copy of the next one."""
    width = fit.inputs.shape[1]
    shuffled = [(name, names[(place + 1) % len(names)]) for place, name in enumerate(names)]
    columns = [(fit.columns[one], fit.columns[two]) for one, two in pairs]
    columns += [(fit.columns[one], [width + column for column in fit.columns[two]]) for one, two in shuffled]
    both = np.hstack([fit.inputs, forest.shadows])
    background = both[_spread(len(both), _BACKGROUND)]
    grids = [_grid(both, background, one, two) for one, two in columns]
    predicted = forest.predict(np.vstack([points for points, _ in grids]))
    found, start = [], 0
    for points, shape in grids:
        effect = predicted[start : start + len(points)].reshape(*shape, len(background)).mean(axis=2)
        rest = effect - effect.mean(axis=0) - effect.mean(axis=1, keepdims=True) + effect.mean()
        found.append(np.var(rest) / np.var(fit.values))
        start += len(points)
    return np.array(found[: len(pairs)]), np.array(found[len(pairs) :])


def _grid(both: Floats, background: Floats, first: list[int], second: list[int]) -> tuple[Floats, tuple[int, int]]:
    """Return ``background`` once for each pair of values of both settings, and the number of values of each."""
    ones, twos = (_values_of(both, columns) for columns in (first, second))
    points = np.tile(background, (len(ones) * len(twos), 1))
    points[:, first] = np.repeat(ones, len(twos) * len(background), axis=0)
    points[:, second] = np.repeat(np.tile(twos, (len(ones), 1)), len(background), axis=0)
    return points, (len(ones), len(twos))


def _values_of(inputs: Floats, columns: list[int]) -> Floats:
    """Return up to ``_GRID`` rows of ``columns`` that stand for equal parts of the trials, (values, columns)."""
    block = inputs[:, columns]
    order = np.lexsort(block.T[::-1])
    return block[order[_spread(len(order), _GRID)]]


def _spread(size: int, count: int) -> NDArray[np.int64]:
    """Return at most ``count`` indices below ``size``, in the middles of equal parts."""
    count = min(size, count)
    return ((np.arange(count) + 0.5) * size / count).astype(np.int64)
