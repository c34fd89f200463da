"""Test the prediction of latency: features by hand, a fit that finds known times, errors of networks left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from st3sweep.networks.latency import FEATURES, Predictor, features, fit, fitted, kind_of


def layer(shape: str, pixels: int, density: float) -> dict[str, Any]:
    numel = int(np.prod([int(size) for size in shape.split("x")]))
    return {"shape": shape, "numel": numel, "density": density, "macs_dense": numel * pixels}


def test_features_of_one_layer_of_each_kind() -> None:
    rows = [
        layer("8x4x3x3", 100, 0.25),  # 288 weights: 72 live, 7,200 live multiply-accumulates, 800 numbers written
        layer("16x8x1x1", 25, 0.5),  # above 0.35: all of 128 · 25 count
        layer("16x1x3x3", 25, 0.5),  # depthwise: 144 · 25 · 0.5, writes 400
        layer("10x16", 1, 0.1),  # linear
    ]
    found = dict(zip(FEATURES, features(rows), strict=True))
    assert found == {
        "sparse": 7200.0, "dense": 3200.0, "depthwise": 1800.0, "linear": pytest.approx(16.0), "written": 800.0 + 400.0,
        "written_depthwise": 400.0, "weights": 72.0 + 64.0 + 72.0, "channels": 8.0 + 16.0 + 16.0, "networks": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "density", "kind"),
    [
        ((16, 3, 3, 3), 0.35, "sparse"),
        ((16, 3, 3, 3), 0.36, "dense"),
        ((16, 1, 3, 3), 0.9, "depthwise"),
        ((1, 1, 3, 3), 0.1, "sparse"),  # one channel of one
        ((16, 1, 1, 1), 0.1, "sparse"),  # of a grey image
        ((10, 64), 1.0, "linear"),
    ],
)
def test_kinds(shape: tuple[int, ...], density: float, kind: str) -> None:
    assert kind_of(shape, density) == kind


def made(count: int) -> tuple[Any, Any, dict[str, float]]:
    """Return features of made networks, their times, and the times of each feature that gave them."""
    random = np.random.default_rng(0)
    rows = random.uniform(0.1, 1.0, (count, len(FEATURES))) * 10.0 ** np.arange(len(FEATURES), 0, -1)
    rows[:, -1] = 1.0
    scales = random.uniform(0.5, 2.0, len(FEATURES)) / 10.0 ** np.arange(len(FEATURES), 0, -1)
    return rows, rows @ scales, dict(zip(FEATURES, scales, strict=True))


def test_a_fit_finds_the_times_that_made_the_data() -> None:
    rows, milliseconds, times = made(40)
    assert fitted(rows, milliseconds) == pytest.approx(times, rel=1e-6)
    assert fit(rows, milliseconds, disturbed=False).error < 1e-9


def test_no_time_is_negative() -> None:
    rows, milliseconds, times = made(40)
    cheaper = milliseconds - 1.5 * times["weights"] * rows[:, FEATURES.index("weights")]  # would be negative
    assert min(fitted(rows, cheaper).values()) == 0.0


def test_the_error_is_of_networks_left_out() -> None:
    rows = np.zeros((4, len(FEATURES)))
    rows[:, -1] = 1.0  # a constant c of all but one has the least Σ (c / t - 1)² at Σ 1/t / Σ 1/t²
    milliseconds = np.array([1.0, 1.0, 1.0, 2.0])  # without one of the first: 2.5 / 2.25; without the last: 1
    found = fit(rows, milliseconds, disturbed=True)
    assert found.times["networks"] == pytest.approx(3.5 / 3.25)
    assert found.error == pytest.approx(2.5 / 2.25 - 1)
    assert found.largest == pytest.approx(0.7 * 0.5 + 0.3 * (2.5 / 2.25 - 1))  # between the third and the last, 1/2
    assert (found.held_out, found.disturbed) == (4, True)
    with pytest.raises(ValueError, match="at least 4"):
        fit(rows[:3], milliseconds[:3], disturbed=False)


def test_a_prediction_adds_up() -> None:
    times = dict.fromkeys(FEATURES, 0.0) | {"sparse": 1e-5, "written": 1e-3, "networks": 0.5}
    predict = Predictor(times, error=0.1, largest=0.2, held_out=4, disturbed=False)
    assert predict([layer("8x4x3x3", 100, 0.25)]) == pytest.approx(0.5 + 0.072 + 0.8)
