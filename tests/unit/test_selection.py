"""Test the winner's curse: expected bias of a front's accuracies by hand and against draws, and its plot."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy.stats import norm

from st3sweep.analysis import noise
from st3sweep.analysis.selection import plot_selection, selection_bias


def table(val: list[float], gflops: list[float], **columns: Any) -> pd.DataFrame:
    common = {
        "status": "finished", "method": "ST-3", "model": "resnet20", "dataset": "cifar10", "sparsity": 0.9,
        "sparsity_target": 0.9, "gflops_dense": 0.041, "replicate_of": np.nan,
    }  # fmt: skip
    rows = pd.DataFrame({"trial": range(len(val)), "val_top1": val, "gflops": gflops}).assign(**common)
    return rows.assign(test_top1=rows["val_top1"] - 1).assign(**columns)


def test_binomial_deviation_by_hand() -> None:
    assert noise.binomial_deviation(90.0, 9998) == pytest.approx(100 * math.sqrt(0.9 * 0.1 / 9998), rel=1e-3)
    # 8 of 8 correct: (8 + 1) / (8 + 2) = 0.9
    assert noise.binomial_deviation([100.0], 8).tolist() == [pytest.approx(100 * math.sqrt(0.09 / 8))]
    with pytest.raises(ValueError, match="1 or more, but got 0"):
        noise.binomial_deviation(90.0, 0)


@pytest.mark.parametrize(
    ("data", "images"),
    [
        ({"dataset": "cifar10", "validation": 5000}, 5000),
        ({"dataset": "cifar10", "validation": 0.1}, 5000),
        ({"dataset": "own", "validation": 0.1}, None),
    ],
)
def test_validation_images_of_the_settings(data: dict[str, Any], images: int | None) -> None:
    spec = json.dumps({"data": data})
    assert noise.validation_images(table([90, 80], [2, 1], spec=spec)) == images
    assert noise.validation_images(table([90, 80], [2, 1], spec=[spec, None])) is None


def test_bias_of_two_equal_trials_by_hand() -> None:
    """Both cost the same and look equal, so the larger of two normal errors is on the front: σ/√π on average."""
    trials = table([90.0, 90.0], [0.01, 0.01])
    found = selection_bias(trials, validation_images=5000, draws=100_000)
    deviation = float(noise.binomial_deviation(90.0, 5000))
    assert found["deviation"].tolist() == pytest.approx([deviation] * 2)
    assert found["bias"].tolist() == pytest.approx([deviation / math.sqrt(math.pi)] * 2, rel=0.02)
    assert found["noise"].unique().tolist() == ["binomial, 5,000 images"]


def test_the_cheapest_and_a_clear_winner_are_not_biased() -> None:
    trials = table([60.0, 90.0], [0.01, 0.02])  # ten deviations apart
    assert selection_bias(trials, validation_images=1000)["bias"].tolist() == pytest.approx([0, 0], abs=0.06)


def test_a_costly_trial_must_beat_the_cheaper_one() -> None:
    """The costlier of two is on the front if its error exceeds the other's by d: E = σ/√2 φ(x) / (1 - Φ(x))."""
    trials = table([90.0, 90.5], [0.01, 0.02])
    found = selection_bias(trials, validation_images=5000, draws=100_000).set_index("trial")
    one, two = noise.binomial_deviation([90.0, 90.5], 5000)
    x = -0.5 / math.hypot(one, two)
    assert found["bias"][0] == pytest.approx(0, abs=0.01)
    assert found["bias"][1] == pytest.approx(two**2 / math.hypot(one, two) * norm.pdf(x) / norm.sf(x), rel=0.03)


def test_of_many_equal_trials_it_finds_the_part_that_the_docstring_says() -> None:
    random = np.random.default_rng(1)
    deviation = float(noise.binomial_deviation(80.0, 5000))
    trues, founds = [], []
    for _ in range(20):
        trials = table((80 + deviation * random.standard_normal(100)).tolist(), [0.01] * 100)
        found = selection_bias(trials, validation_images=5000, draws=200)
        trues.append(found["val_top1"].iloc[0] - 80)
        founds.append(found["bias"].iloc[0])
    assert np.mean(founds) / np.mean(trues) == pytest.approx(0.44, abs=0.1)


def note_of(figure: Figure) -> str:
    """Return what stands below a figure, in one line."""
    return " ".join(figure.texts[-1].get_text().split())


def test_replicates_come_before_binomial_noise() -> None:
    trials = table([90.0, 95.0, 92.0], [0.01, 0.02, 0.01], replicate_of=[np.nan, np.nan, 0])
    found = selection_bias(trials, validation_images=5000)
    assert found["trial"].tolist() == [0, 1], "a replicate is not on the front"
    assert found["noise"].unique().tolist() == ["replicates"]
    assert found["deviation"].tolist() == pytest.approx([math.sqrt(2)] * 2)  # of 90 and 92


def test_unknown_noise_is_an_error_of_the_function_and_a_note_of_the_plot() -> None:
    trials = table([90.0, 95.0], [0.01, 0.02])
    with pytest.raises(ValueError, match="no trial has a replicate, and validation_images was not given"):
        selection_bias(trials)
    assert note_of(plot_selection(trials)).startswith("noise unknown: no replicates")


def test_unfinished_trials_and_those_without_a_cost_do_not_count() -> None:
    trials = table([90.0, 95.0, 99.0, 98.0], [0.01, 0.02, 0.01, np.nan])
    trials["status"] = ["finished", "finished", "failed", "finished"]
    found = selection_bias(trials, validation_images=5000)
    assert found["trial"].tolist() == [0, 1]
    assert found["bias"].notna().all()


def test_plot_shows_front_gaps_and_expected_line() -> None:
    trials = table([90.0, 95.0, 94.0], [0.01, 0.02, 0.03], test_top1=[89.0, 93.0, 94.5])
    figure = plot_selection(trials, validation_images=500)
    (axes,) = figure.axes
    (rings,) = [drawn for drawn in axes.collections if drawn.get_label() == "front"]
    assert np.asarray(rings.get_offsets()).tolist() == [[90, 89], [95, 93]]
    assert "mean of validation − test: front +1.50, others -0.50" in note_of(figure)
    bias = selection_bias(trials, validation_images=500)["bias"].mean()
    (line,) = [line for line in axes.lines if str(line.get_label()) == "expected of the front"]
    assert f"{bias:.2f} or more lower" in note_of(figure)
    x, y = line.get_xy1()  # type: ignore[attr-defined]
    assert x - y == pytest.approx(bias)


def test_plot_without_a_finished_trial() -> None:
    (axes,) = plot_selection(table([90.0], [0.01], status="failed")).axes
    assert axes.texts[0].get_text() == "no finished trial has both"


def test_trials_outside_the_axes_are_counted() -> None:
    trials = table([90.0, 91.0, 92.0, 93.0, 10.0, 92.5], [0.01, 0.02, 0.03, 0.04, 0.05, 0.06])
    trials["test_top1"] = [89.0, 90.0, 91.0, 92.0, 90.0, 20.0]  # one has collapsed on each set alone
    (axes,) = plot_selection(trials, validation_images=500).axes
    assert axes.get_title(loc="right") == "2 of 6 trials outside the axes (test down to 20.0 %)"


def test_an_own_metric_where_less_is_better_is_biased_downwards() -> None:
    """Two trials of equal cost that look equal: the smaller of two normal errors is on the front: -σ/√π on average."""
    trials = table(
        [50.0] * 4, [0.01] * 4, val_error=[0.2, 0.2, 0.18, 0.22], test_error=[0.25] * 4, replicate_of=[None, None, 0, 1]
    )
    objectives: Any = (("val_error", "min"), ("gflops", "min"))
    found = selection_bias(trials, draws=100_000, objectives=objectives)
    deviation = math.sqrt((2 * 0.01**2 + 2 * 0.01**2) / 2)
    assert found["trial"].tolist() == [0, 1]
    assert found["deviation"].tolist() == pytest.approx([deviation] * 2)
    assert found["bias"].tolist() == pytest.approx([-deviation / math.sqrt(math.pi)] * 2, rel=0.02)
    figure = plot_selection(trials, objectives=objectives)
    assert "0.0082 or more higher" in note_of(figure)
    assert figure.axes[0].get_xlabel() == "val_error"
    with pytest.raises(ValueError, match="noise of val_error is not known: no trial has a replicate, and it is no acc"):
        selection_bias(trials.iloc[:2], objectives=objectives)
