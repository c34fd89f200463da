"""Test Pareto mask and hypervolume: small cases by hand, the definition as properties, and parity with moocore."""

from __future__ import annotations

import subprocess
import sys

import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from st3sweep.pareto import Goal, hypervolume, pareto_layers, pareto_mask

Points = NDArray[np.float64]
ACCURACY_COST: tuple[Goal, Goal] = ("max", "min")
nan, inf = np.nan, np.inf

# Few distinct values, so that ties in one objective and identical points are common.
coarse = st.sampled_from([-inf, -2.0, -0.0, 0.0, 1.0, 2.0, 3.0, inf])


@st.composite
def cases(draw: st.DrawFn, columns: int | None = None) -> tuple[Points, list[Goal]]:
    m = columns or draw(st.integers(1, 4))
    values = coarse | st.floats(-10, 10) | st.just(nan)
    points = draw(arrays(np.float64, (draw(st.integers(0, 25)), m), elements=values))
    return points, draw(st.lists(st.sampled_from(["max", "min"]), min_size=m, max_size=m))


def dominates(a: Points, b: Points, goals: list[Goal]) -> bool:
    """Return whether ``a`` dominates ``b``, by the definition; comparisons with NaN are false in Python too."""
    no_worse = all(x >= y if goal == "max" else x <= y for x, y, goal in zip(a, b, goals, strict=True))
    better = any(x > y if goal == "max" else x < y for x, y, goal in zip(a, b, goals, strict=True))
    return no_worse and better


@pytest.mark.parametrize(
    ("points", "on_front"),
    [
        pytest.param([(70, 1.0)], [True], id="a single point"),
        pytest.param([(70, 1.0), (60, 2.0)], [True, False], id="dominated in both"),
        pytest.param([(70, 1.0), (60, 0.5)], [True, True], id="a trade-off"),
        pytest.param([(70, 1.0), (71, 1.0), (65, 1.0)], [False, True, False], id="same cost"),
        pytest.param([(70, 1.0), (70, 0.5), (70, 2.0)], [False, True, False], id="same accuracy"),
        pytest.param([(70, 1.0), (70, 1.0), (60, 1.0)], [True, True, False], id="identical points are both on it"),
        pytest.param([(70, 1.0), (60, 2.0), (60, 2.0)], [True, False, False], id="identical points dominated"),
        pytest.param([(99, nan), (nan, 0.1), (70, 1.0)], [False, False, True], id="NaN is out and dominates none"),
        pytest.param([(nan, nan)], [False], id="nothing but NaN"),
        pytest.param([(-inf, 0.5), (70, 1.0), (60, inf)], [True, True, False], id="infinities are values"),
        pytest.param([(60, -inf), (inf, inf), (50, inf)], [True, True, False], id="infinite extremes"),
    ],
)
def test_front_by_hand(points: list[tuple[float, float]], on_front: list[bool]) -> None:
    mask = pareto_mask(points, ACCURACY_COST)
    assert mask.dtype == bool
    assert mask.tolist() == on_front


def test_goals_decide_the_direction() -> None:
    points = [(1, 1), (2, 2), (1, 2), (2, 1)]
    assert pareto_mask(points, ("min", "min")).tolist() == [True, False, False, False]
    assert pareto_mask(points, ("max", "max")).tolist() == [False, True, False, False]
    assert pareto_mask(points, ("min", "max")).tolist() == [False, False, True, False]


def test_one_and_three_objectives() -> None:
    assert pareto_mask([[3], [1], [1], [nan]], ["min"]).tolist() == [False, True, True, False]
    # The third point is worse in accuracy and cost but best in time; the fourth is worse in all three.
    points = [(70, 1.0, 9.0), (60, 0.5, 9.0), (59, 1.0, 3.0), (58, 1.1, 4.0)]
    assert pareto_mask(points, ("max", "min", "min")).tolist() == [True, True, True, False]


@pytest.mark.parametrize("empty", [[], np.empty((0, 2))])
def test_no_points(empty: Points) -> None:
    assert pareto_mask(empty, ACCURACY_COST).shape == (0,)
    assert hypervolume(empty, ACCURACY_COST, (0, 1)) == 0.0


def test_the_input_is_unchanged() -> None:
    points = np.array([(70, 1.0), (60, nan)])
    before = points.copy()
    pareto_mask(points, ACCURACY_COST)
    hypervolume(points, ACCURACY_COST, (0, 2))
    np.testing.assert_array_equal(points, before)


@pytest.mark.parametrize(
    ("points", "goals", "message"),
    [
        ([1.0, 2.0], ("max", "min"), r"shape \(n, m\), but got \(2,\)"),
        ([[[1.0]]], ("max",), r"shape \(n, m\), but got \(1, 1, 1\)"),
        ([(1.0, 2.0)], ("max",), r"2 columns, but got 1 goals: \('max',\)"),
        ([(1.0, 2.0)], ("max", "least"), "but got 'least'"),
        ([(1.0, 2.0, 3.0)], "max", "but got 'max'"),
        ([], (), r"but got \(\)"),
    ],
)
def test_errors_name_the_value(points: Points, goals: tuple[Goal, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pareto_mask(points, goals)


def test_hypervolume_by_hand() -> None:
    # Reference (0 %, 10): strips of 2 wide and 40 high from cost 1 to 3, 7 wide and 70 high from 3 to 10.
    points = [(40, 1.0), (70, 3.0)]
    assert hypervolume(points, ACCURACY_COST, (0, 10)) == pytest.approx(2 * 40 + 7 * 70)
    extra = [(40, 1.0), (30, 2.0), (nan, 0.1), (90, 10.0), (95, 11.0), (-1, 0.5)]
    assert hypervolume(points + extra, ACCURACY_COST, (0, 10)) == pytest.approx(570), "these must add nothing"
    assert hypervolume([(2, 3)], ("max", "max"), (1, 1)) == pytest.approx(2)
    assert hypervolume([(2, 3)], ("min", "min"), (3, 5)) == pytest.approx(2)


def test_an_infinitely_good_point_is_infinite() -> None:
    assert hypervolume([(inf, 1.0), (inf, 1.0)], ACCURACY_COST, (0, 2)) == inf
    assert hypervolume([(inf, -inf), (3.0, 1.0)], ACCURACY_COST, (0, 2)) == inf


@pytest.mark.parametrize("reference", [(0,), (0, 1, 2), 3.0, (0, inf), (nan, 1)])
def test_hypervolume_refuses_the_reference(reference: object) -> None:
    with pytest.raises(ValueError, match="2 finite numbers, but got"):
        hypervolume([(1, 1)], ACCURACY_COST, reference)  # type: ignore[arg-type]


def test_hypervolume_is_of_two_objectives() -> None:
    with pytest.raises(ValueError, match="2 objectives, but got 3"):
        hypervolume([(1, 1, 1)], ("max", "min", "min"), (0, 2, 2))


@given(cases())
def test_the_front_is_its_definition(case: tuple[Points, list[Goal]]) -> None:
    points, goals = case
    mask = pareto_mask(points, goals)
    front = points[mask]
    assert not np.isnan(front).any()
    assert not any(dominates(a, b, goals) for a in front for b in front)
    for point in points[~mask]:
        assert np.isnan(point).any() or any(dominates(member, point, goals) for member in front)


@given(cases(), st.randoms(use_true_random=False))
def test_the_order_of_points_does_not_matter(case: tuple[Points, list[Goal]], random: object) -> None:
    points, goals = case
    order = np.arange(len(points))
    random.shuffle(order)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(pareto_mask(points[order], goals), pareto_mask(points, goals)[order])


@given(cases())
def test_monotone_rescaling_does_not_matter(case: tuple[Points, list[Goal]]) -> None:
    points, goals = case
    # Replacing values by their order is a rescaling without rounding; + 0.0 makes -0.0 and 0.0 one value.
    ranks = np.full(points.shape, nan)
    for column in range(points.shape[1]):
        known = ~np.isnan(points[:, column])
        ranks[known, column] = np.unique(points[known, column] + 0.0, return_inverse=True)[1] ** 3
    np.testing.assert_array_equal(pareto_mask(ranks, goals), pareto_mask(points, goals))


@given(cases(columns=2))
def test_only_the_front_makes_the_hypervolume(case: tuple[Points, list[Goal]]) -> None:
    points, goals = case
    points = points[np.isfinite(points).all(axis=1)]
    reference = [-20.0 if goal == "max" else 20.0 for goal in goals]
    whole = hypervolume(points, goals, reference)
    assert whole == pytest.approx(hypervolume(points[pareto_mask(points, goals)], goals, reference))
    assert all(hypervolume(points[:n], goals, reference) <= whole * (1 + 1e-12) for n in range(len(points)))


def test_layers_by_hand() -> None:
    points = [(70, 1.0), (60, 0.5), (69, 1.0), (60, 0.5), (nan, 0.1), (68, 1.0), (60, 0.6), (65, 2.0)]
    assert pareto_layers(points, ACCURACY_COST).tolist() == [0, 0, 1, 0, -1, 2, 1, 3]
    assert pareto_layers([], ACCURACY_COST).shape == (0,)
    with pytest.raises(ValueError, match="2 objectives, but got 3"):
        pareto_layers([(1, 1, 1)], ("max", "min", "min"))


@given(cases(columns=2))
def test_each_layer_is_the_front_of_what_the_layers_before_leave(case: tuple[Points, list[Goal]]) -> None:
    points, goals = case
    layers = pareto_layers(points, goals)
    assert (layers == -1).tolist() == np.isnan(points).any(axis=1).tolist()
    for layer in range(layers.max(initial=0) + 1):
        left = np.where((layers >= layer)[:, None], points, nan)
        np.testing.assert_array_equal(layers == layer, pareto_mask(left, goals))


@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("levels", [4, 1000])
def test_parity_with_moocore(m: int, levels: int) -> None:
    """``keep_weakly`` keeps all copies of a point, as here. Few levels make ties and copies, many make long fronts."""
    generator = np.random.default_rng(m * levels)
    for _ in range(50):
        points = generator.integers(0, levels, size=(60, m)) / levels
        goals: list[Goal] = ["max" if up else "min" for up in generator.random(m) < 0.5]
        maximise = [goal == "max" for goal in goals]
        expected = moocore.is_nondominated(points, maximise=maximise, keep_weakly=True)
        np.testing.assert_array_equal(pareto_mask(points, goals), expected)
        if m == 2:
            reference = generator.random(2)
            area = moocore.hypervolume(points, ref=reference, maximise=maximise)
            assert hypervolume(points, goals, reference) == pytest.approx(area, abs=1e-12)


@pytest.mark.parametrize("levels", [30, 300, 10**9])
def test_many_points_have_the_front_of_moocore(levels: int) -> None:
    """A cloud behind a curve, with ties, copies, infinities and NaN."""
    random = np.random.default_rng(levels)
    cost = random.integers(0, levels, 30_000) / levels
    gain = np.round(np.sqrt(cost) - random.exponential(0.2, 30_000), 2 if levels < 1000 else 12)
    points = np.stack([gain, cost], axis=1)
    points[:5] = [[-inf, -inf], [inf, 2.0], [0.5, inf], [-inf, 0.5], [0.2, 0.0]]
    expected = moocore.is_nondominated(points, maximise=[True, False], keep_weakly=True)
    assert pareto_mask(points, ACCURACY_COST).tolist() == expected.tolist()
    with_nan = np.vstack([points, [[nan, 0.0], [9.0, nan]]])
    assert pareto_mask(with_nan, ACCURACY_COST).tolist() == [*expected.tolist(), False, False]


def test_it_needs_numpy_only() -> None:
    code = "import sys, st3sweep.pareto; print(*{'torch', 'ray', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
