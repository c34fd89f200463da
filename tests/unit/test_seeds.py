"""Test fronts with replicates: means, intervals and probabilities by hand."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
import pytest

from st3sweep.analysis import plots, tables
from st3sweep.analysis.fronts import front, front_hypervolume
from st3sweep.analysis.seeds import average_seeds, front_probability, over_seeds

T_2, T_1 = 4.302653, 12.706205  # Student's t at 97.5 %, two degrees of freedom and one
# trial, replicate_of, seed, val_top1, gflops. By hand: 0 is 91 ± T_1 · 1, 1 is 95 ± T_2 · 2 / √3, 2 has one seed.
ROWS = [
    (0, None, 0, 90.0, 0.010), (1, None, 0, 95.0, 0.020), (2, None, 0, 94.0, 0.030),
    (3, 0, 1, 92.0, 0.009), (4, 1, 1, 97.0, 0.019), (5, 1, 2, 93.0, 0.021), (6, 0, 2, None, None),
]  # fmt: skip
S = math.sqrt((1 * 2 + 2 * 4) / 3)  # of one seed: variances 2 and 4 with one and two degrees of freedom


@pytest.fixture
def trials() -> pd.DataFrame:
    task: dict[str, Any] = {"model": "resnet20", "dataset": "cifar10", "method": "ST-3", "gflops_dense": 0.041}
    rows = [
        {"trial": trial, "replicate_of": of, "seed": seed, "val_top1": top1, "test_top1": top1, "gflops": gflops,
         "sparsity": 0.9, "sparsity_target": 0.9, "status": "failed" if top1 is None else "finished", "error": None,
         **task}
        for trial, of, seed, top1, gflops in ROWS
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_means_and_intervals_over_the_seeds_of_a_trial(trials: pd.DataFrame) -> None:
    table = over_seeds(trials).set_index("trial")
    assert table.index.tolist() == [0, 1, 2]
    assert table["seeds"].tolist() == [2, 3, 1]
    assert table["mean"].tolist() == [91.0, 95.0, 94.0]
    assert table["half_width"].tolist() == pytest.approx([T_1, T_2 * 2 / math.sqrt(3), math.nan], nan_ok=True)


def test_replicates_of_a_run_belong_to_its_own_trials(trials: pd.DataFrame) -> None:
    both = pd.concat([trials.assign(run="a"), trials.assign(run="b", val_top1=trials["val_top1"] + 1)])
    assert over_seeds(both)["mean"].tolist() == [91.0, 95.0, 94.0, 92.0, 96.0, 95.0]


def test_a_lucky_replicate_is_not_on_the_front(trials: pd.DataFrame) -> None:
    assert front(trials)["trial"].tolist() == [0, 1]
    assert front_hypervolume(trials) == pytest.approx(0.010 * 90 + 0.021 * 95)


def test_probability_of_two_by_hand(trials: pd.DataFrame) -> None:
    table = over_seeds(trials)
    cheapest, member = front_probability(table.iloc[:2], table)
    assert cheapest == pytest.approx(1.0)
    difference = NormalDist(95 - 91, math.sqrt(S**2 / 3 + S**2 / 2))
    assert member == pytest.approx(1 - difference.cdf(0), abs=1e-9)


def test_probability_among_alike_ones(trials: pd.DataFrame) -> None:
    """Of three trials with equal means, the most expensive is best in one of three cases; two of equal cost share."""
    table = over_seeds(trials).assign(mean=90.0, seeds=2, standard_error=1.0, gflops=[0.02, 0.01, 0.01])
    assert front_probability(table, table).tolist() == pytest.approx([1 / 3, 1 / 2, 1 / 2])
    assert front_probability(table.iloc[[0]], table.iloc[[1, 0]]).tolist() == pytest.approx([1 / 2])


def test_probability_against_draws(trials: pd.DataFrame) -> None:
    table = over_seeds(trials)
    deviation = S / np.sqrt(table["seeds"].to_numpy())
    drawn = np.random.default_rng(0).normal(table["mean"], deviation, size=(200_000, 3))
    assert front_probability(table, table)[2] == pytest.approx((drawn.argmax(axis=1) == 2).mean(), abs=0.005)


def test_seeds_that_all_agree_leave_the_order_of_the_means(trials: pd.DataFrame) -> None:
    table = over_seeds(trials).assign(standard_error=0.0)
    assert front_probability(table, table).tolist() == pytest.approx([1, 1, 0])


def test_probability_takes_replicates(trials: pd.DataFrame) -> None:
    table = over_seeds(trials[trials["replicate_of"].isna()])
    with pytest.raises(ValueError, match="no trial has one"):
        front_probability(table, table)


def test_the_front_table_has_intervals_and_probabilities(trials: pd.DataFrame) -> None:
    header, first, second = tables.front_table(trials).splitlines()
    assert header.endswith("fewer than dense  seeds  mean val (95 %)  on front")
    assert first.split()[-6:] == ["2", "91.00", "±", "12.71", "100", "%"]
    assert second.split()[-6:] == ["3", "95.00", "±", "4.97", "99", "%"]
    assert "seeds" not in tables.front_table(trials[trials["replicate_of"].isna()])
    other = tables.front_table(trials, (("test_top1", "max"), ("gflops", "min")))
    assert "seeds" not in other, "these columns belong to the front of validation accuracy"
    only_one = tables.front_table(trials[trials["replicate_of"] != 0]).splitlines()
    assert only_one[1].split()[-4:] == ["1", "-", "100", "%"]


def test_the_plot_has_a_bar_for_each_repeated_trial(trials: pd.DataFrame) -> None:
    (axes,) = plots.plot_front(trials).axes
    (bars,) = axes.containers
    centre, _, (lines,) = bars.lines  # type: ignore[attr-defined]
    np.testing.assert_allclose(centre.get_xydata(), [(10, 91), (20, 95)])
    spans = [segment[:, 1].tolist() for segment in lines.get_segments()]
    half = T_2 * 2 / math.sqrt(3)
    np.testing.assert_allclose(spans, [(91 - T_1, 91 + T_1), (95 - half, 95 + half)], rtol=1e-6)
    points = {
        drawn.get_alpha(): np.asarray(drawn.get_offsets()).tolist() for drawn in axes.collections if drawn.get_alpha()
    }
    np.testing.assert_allclose(points[0.35], [(9, 92), (19, 97), (21, 93)])
    (own,) = [drawn for drawn in axes.collections if drawn.get_label() == "ST-3"]
    np.testing.assert_allclose(own.get_offsets(), [(10, 90), (20, 95), (30, 94)])
    (plain,) = plots.plot_front(trials[trials["replicate_of"].isna()]).axes
    assert not plain.containers


def test_trials_alike_in_all_but_the_seed_become_one_row(trials: pd.DataFrame) -> None:
    """Trials 0 to 2 differ by seed only, 3 to 5 too; 6 failed. Of the two rows the second costs less and is better."""
    table = average_seeds(trials.assign(digest=["a", "a", "a", "b", "b", "b", "a"]))
    assert table["trial"].tolist() == [0, 3]
    assert table["val_top1"].tolist() == [93.0, 94.0]
    assert table["gflops"].tolist() == [pytest.approx(0.020), pytest.approx(0.049 / 3)]
    assert front(table.assign(replicate_of=None))["trial"].tolist() == [3]
