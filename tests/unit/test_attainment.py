"""Test attainment bands by hand, in both directions, and from replicates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from st3sweep.analysis.attainment import attainment, plot_attainment


def trials_of(rows: list[tuple[int, float, float]], **columns: Any) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["seed", "gflops", "val_top1"])
    return table.assign(trial=range(len(table)), status="finished", **columns)


def test_bands_of_three_repetitions_by_hand() -> None:
    trials = trials_of([(0, 1, 80), (0, 2, 90), (1, 1, 70), (1, 2, 60), (2, 2, 85), (2, 3, 95)])
    table = attainment(trials, by="seed")
    # At 1 the third has nothing yet; at 2 they have 90, 70 (its costlier trial is worse) and 85; at 3: 90, 70, 95.
    assert table["gflops"].tolist() == [1, 2, 3]
    assert np.isnan(table["low"][0])
    assert table["low"].tolist()[1:] == [70, 70]
    assert table["median"].tolist() == [70, 85, 90]
    assert table["high"].tolist() == [80, 90, 95]
    assert (table["repetitions"].tolist(), set(table["basis"])) == ([3] * 3, {"seed"})
    (axes,) = plot_attainment(table).axes
    (line,) = axes.lines
    assert np.asarray(line.get_ydata()).tolist() == [70, 85, 90, 90]


def test_where_less_is_better_low_is_what_all_attain() -> None:
    trials = trials_of([(0, 1, 0), (1, 1, 0)], val_error=[0.2, 0.3])
    table = attainment(trials, by="seed", objectives=(("val_error", "min"), ("gflops", "min")))
    assert table[["low", "high"]].values.tolist() == [[0.3, 0.2]]


def test_of_replicates_the_band_is_that_of_the_mean() -> None:
    """One trial, four seeds of deviation 2: its mean has a deviation of 1, so 95 % lie within 1.96."""
    seeds = [88.0, 92.0, 88.0, 92.0]
    trials = trials_of([(n, 1.0, value) for n, value in enumerate(seeds)], replicate_of=[np.nan, 0, 0, 0])
    (row,) = attainment(trials, draws=20_000).itertuples()
    half = 1.96 * np.std(seeds, ddof=1) / 2
    assert (row.low, row.median, row.high) == pytest.approx((90 - half, 90, 90 + half), abs=0.06)
    assert row.basis == "replicates"


def test_repetitions_and_replicates_are_needed() -> None:
    trials = trials_of([(0, 1, 80), (0, 2, 90)])
    with pytest.raises(ValueError, match="by='seed': two repetitions or more are needed, but there are 1"):
        attainment(trials, by="seed")
    with pytest.raises(ValueError, match="needs replicates, but no trial has one"):
        attainment(trials)
