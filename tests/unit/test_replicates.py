"""Test means and intervals over seeds against values computed by hand."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from st3sweep.analysis.replicates import paired_difference, plot_replicates, replicates

TRIALS = pd.DataFrame(
    [
        {"trial": index, "status": status, "method": method, "sparsity_target": 0.9, "seed": seed, "test_top1": top1,
         "val_top1": top1, "gflops": 0.01 * (seed + 1)}
        for index, (status, method, seed, top1) in enumerate(
            [
                ("finished", "ST-3", 0, 70.0), ("finished", "ST-3", 1, 72.0), ("finished", "ST-3", 2, 74.0),
                ("finished", "ST-3 no-soft", 0, 69.0), ("finished", "ST-3 no-soft", 1, 70.0),
                ("failed", "ST-3 no-soft", 2, 0.0),
            ]
        )
    ]
)  # fmt: skip
T_2, T_1 = 4.302653, 12.706205  # Student's t at 97.5 %, two degrees of freedom and one


def test_means_and_intervals() -> None:
    first, second = replicates(TRIALS).to_dict("records")
    assert (first["method"], first["seeds"], first["mean"]) == ("ST-3", 3, 72.0)
    assert first["half_width"] == pytest.approx(T_2 * 2 / math.sqrt(3), rel=1e-6)
    assert first["gflops"] == pytest.approx(0.02)
    assert (second["method"], second["seeds"], second["mean"]) == ("ST-3 no-soft", 2, 69.5)
    assert second["half_width"] == pytest.approx(T_1 * 0.5, rel=1e-6)


def test_differences_are_taken_seed_by_seed() -> None:
    (row,) = paired_difference(TRIALS, "ST-3", "ST-3 no-soft").to_dict("records")
    assert (row["sparsity_target"], row["seeds"], row["mean"]) == (0.9, 2, 1.5)
    assert row["half_width"] == pytest.approx(T_1 * 0.5, rel=1e-6)


def test_one_seed_has_no_interval() -> None:
    (row,) = replicates(TRIALS[:1]).to_dict("records")
    assert (row["seeds"], row["mean"]) == (1, 70.0)
    assert math.isnan(row["half_width"])


def test_a_repeated_seed_is_an_error() -> None:
    with pytest.raises(ValueError, match="seed 1 is repeated"):
        replicates(pd.concat([TRIALS, TRIALS[1:2]]))


def test_the_plot_has_a_panel_a_target_and_all_points() -> None:
    other = TRIALS.assign(sparsity_target=0.95)
    figure = plot_replicates(pd.concat([TRIALS, other]))
    assert [axes.get_title() for axes in figure.axes] == ["90 % sparsity", "95 % sparsity"]
    for axes in figure.axes:
        points = [offset[1] for collection in axes.collections for offset in getattr(collection, "get_offsets", list)()]
        assert {70.0, 72.0, 74.0, 69.0} <= set(points)
