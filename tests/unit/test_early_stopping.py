"""Early stopping: each rule on a small case by hand, then properties for any trials in any order."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st3sweep.early_stopping.ranking import GOALS, normalised, residual_rank, spread, trend
from st3sweep.early_stopping.rebuilding import rebuild
from st3sweep.early_stopping.rules import JUDGED, EarlyStopping
from st3sweep.early_stopping.rung import Layers, Rung
from st3sweep.pareto import pareto_layers
from st3sweep.space.early_stopping import EarlyStoppingConfig

nan, inf = math.nan, math.inf
FRONT = [(60, 1.0), (62, 1.1), (64, 1.2), (66, 1.3), (68, 1.4), (70, 1.5), (72, 1.6)]  # val_top1, gflops
RULES = ["ramp_pareto", "residual"]


def epoch(top1: Any, gflops: Any, ramp: float | None = 0.3, progress: float = 0.2, **more: Any) -> dict[str, Any]:
    return {"val_top1": top1, "gflops": gflops, "ramp_progress": ramp, "progress": progress, **more}


def early_stopping(name: str = "ramp_pareto", seed: int = 0, **fields: Any) -> EarlyStopping:
    rungs = {} if name == "none" else {"rungs": (0.25, 0.6, 1.0)}
    return EarlyStopping(EarlyStoppingConfig(name=name, **{**rungs, **fields}), seed)


def last_is_stopped(points: list[tuple[float, float]], name: str = "ramp_pareto", **fields: Any) -> bool:
    """Whether the last of ``points``, one a trial, is stopped at the first rung, which all reach."""
    made = early_stopping(name, **fields)
    return [made.observe(number, epoch(*point)) for number, point in enumerate(points)][-1]


@pytest.mark.parametrize(
    ("last", "stopped"),
    [
        pytest.param((65, 1.65), True, id="dominated, last of 8, third of its bin or worse"),
        pytest.param((72.5, 1.65), False, id="on the front"),
        pytest.param((72, 1.6), False, id="a copy of one on the front"),
        pytest.param((71, 1.65), False, id="dominated, but second of its bin"),
        pytest.param((69.9, 1.65), True, id="dominated, third of its bin"),
        pytest.param((70, 1.65), False, id="dominated, level with the second of its bin"),
        pytest.param((65, 1.99), True, id="just within a factor of two of the cheapest"),
        pytest.param((65, 2.0), False, id="alone in the next bin"),
    ],
)
def test_exceptions_of_the_pareto_rule(last: tuple[float, float], stopped: bool) -> None:
    assert last_is_stopped([*FRONT, last]) is stopped


@pytest.mark.parametrize(("last", "stopped"), [((65, 1.25), False), ((59, 0.99), False), ((64, 1.25), True)])
def test_the_front_is_never_stopped_whatever_its_rank_and_bin(last: tuple[float, float], stopped: bool) -> None:
    assert last_is_stopped([*FRONT, last], reduction_factor=100) is stopped


def test_no_trial_is_stopped_below_min_trials() -> None:
    assert not last_is_stopped([*FRONT[1:], (61, 1.65)])
    assert last_is_stopped([*FRONT[1:], (61, 1.65)], min_trials=7)
    assert not last_is_stopped([*FRONT, (61, 1.65)], min_trials=9)


# Two on the front, also the best of the bin; then layers of one trial each, so that rank = layer + 2.
LADDER = [(80, 1.0), (82, 1.1), (70, 1.2), (65, 1.3), (60, 1.4), (55, 1.5), (50, 1.6)]


@pytest.mark.parametrize(
    ("top1", "rank"), [(77, 3), (69, 4), (64, 5), (59, 6), (49, 8)], ids=lambda value: f"{value:g}"
)
@pytest.mark.parametrize("factor", [1.5, 2, 4])
def test_the_best_fraction_continues(top1: float, rank: int, factor: float) -> None:
    assert last_is_stopped([*LADDER, (top1, 1.7)], reduction_factor=factor) is (rank > 8 / factor)


def test_the_residual_rule_by_hand() -> None:
    # Errors at three costs with medians 45, 30 and 15.05, which are the trend there. So the last, an accuracy of 84.9,
    # is 0.05 worse than usual; four trials are better by 10 or 15, two by 0.05, and five are worse: rank 7 of 12.
    points = [(70.0, 1.0), (70.0, 1.0), (40.0, 1.0), (40.0, 1.0), (80.0, 8.0), (80.0, 8.0), (60.0, 8.0), (60.0, 8.0)]
    points += [(85.0, 64.0), (85.0, 64.0), (84.0, 64.0), (84.9, 64.0)]
    assert last_is_stopped(points, "residual", reduction_factor=2)  # 7/12 is above 1/2
    assert not last_is_stopped(points, "residual", reduction_factor=1.6)  # and below 0.625
    assert not last_is_stopped([*points[:-3], *points[-2:]], "residual"), "it is second of its bin now"


def test_asha_ranks_by_accuracy_alone() -> None:
    others = [(60, 1.0), (62, 1.0), (64, 1.0), (66, 1.0), (68, 1.0), (70, 1.0), (72, 1.0)]
    made = [early_stopping("asha") for _ in range(2)]
    for number, point in enumerate(others):
        assert not any(one.observe(number, epoch(*point, progress=0.3)) for one in made)
    assert made[0].observe(7, epoch(65.9, 0.01, progress=0.3)), "fifth of 8, and alone at its cost"
    assert not made[1].observe(7, epoch(66.1, 99.0, progress=0.3)), "fourth of 8"


@pytest.mark.parametrize("top1", [73, 71])
def test_the_best_continues_whatever_the_reduction_factor(top1: float) -> None:
    made = early_stopping("asha", reduction_factor=100)
    for number, point in enumerate(FRONT):
        made.observe(number, epoch(*point, progress=0.3))
    assert made.observe(7, epoch(top1, 1.0, progress=0.3)) is (top1 == 71)


def test_the_seed_breaks_ties() -> None:
    """Of 8 copies under asha at most half are stopped; the seed decides which."""

    def stopped(seed: int) -> list[bool]:
        made = early_stopping("asha", seed)
        return [made.observe(number, epoch(50, 1.0, progress=0.3)) for number in range(30)]

    assert stopped(1) == stopped(1)
    assert stopped(1) != stopped(2)
    assert 3 < sum(stopped(1)) < 20


@pytest.mark.parametrize(
    ("name", "ramp", "progress", "rung"),
    [
        ("ramp_pareto", 0.0, 0.9, None),
        ("ramp_pareto", 0.24, 0.9, None),
        ("ramp_pareto", 0.25, 0.1, 0),
        ("ramp_pareto", 0.59, 0.1, 0),
        ("ramp_pareto", 0.6, 0.1, 1),
        ("ramp_pareto", 1.0, 0.1, 2),
        ("residual", None, 0.24, None),
        ("residual", None, 0.25, 0),
        ("residual", nan, 0.7, 1),
        ("residual", None, 1.0, 2),
        ("asha", 1.0, 0.24, None),
        ("asha", 0.0, 0.25, 0),
        ("asha", 0.0, 1.0, 2),
        ("none", 1.0, 1.0, None),
        ("ramp_pareto", 1.0, None, None),
    ],
)
def test_rungs(name: str, ramp: float | None, progress: Any, rung: int | None) -> None:
    made = early_stopping(name)
    made.observe(3, epoch(50, 1.0, ramp, progress))
    assert made.rung(3) == rung
    assert made.rung(4) is None


def test_rungs_after_the_ramp_are_in_training_progress() -> None:
    made = early_stopping(every=0.1)
    seen = []
    for done, ramp in [(0.2, 0.5), (0.4, 1.0), (0.49, 1.0), (0.5, 1.0), (0.55, 1.0), (0.7, 1.0)]:
        made.observe(0, epoch(50, 1.0, ramp, done))
        seen.append(made.rung(0))
    assert seen == [0, 2, 2, 3, 3, 5]
    assert sorted(made.counted) == [0, 1, 2, 3, 4, 5], "an epoch that passes several rungs counts at each"
    assert len({rung.entries[0][2] for rung in made.counted.values()}) == 6, "ties are settled anew at each rung"


def test_a_trial_counts_at_a_rung_once_with_its_first_result() -> None:
    made = early_stopping()
    made.observe(0, epoch(50, 1.0, 0.3))
    made.observe(0, epoch(70, 1.0, 0.4))
    assert made.counted[0].entries[0][:2] == (50.0, 0.0)


def test_the_cost_is_that_at_the_end_of_the_ramp() -> None:
    made = early_stopping()
    made.observe(0, epoch(50, 4.0, gflops_final=2.0))
    made.observe(1, epoch(50, 4.0, gflops_final=None))
    made.observe(2, epoch(50, 4.0, ramp=None, progress=0.3, gflops_final=2.0))  # without a ramp, the present cost
    costs = [math.exp(cost) for _, cost, _ in made.counted[0].entries.values()]
    assert costs == pytest.approx([2.0, 4.0, 4.0])


@pytest.mark.parametrize("name", [*RULES, "asha"])
def test_the_last_epoch_is_not_stopped(name: str) -> None:
    made = early_stopping(name)
    for number, point in enumerate(FRONT):
        made.observe(number, epoch(*point, ramp=1.0, progress=1.0))
    assert not made.observe(7, epoch(20, 1.65, ramp=1.0, progress=1.0))
    assert len(made.counted[2]) == 8
    assert made.observe(8, epoch(20, 1.65, ramp=1.0, progress=0.99))


@pytest.mark.parametrize("missing", [None, nan, inf, -inf, "absent"])
@pytest.mark.parametrize("metric", ["val_top1", "gflops"])
@pytest.mark.parametrize("name", [*RULES, "asha"])
def test_a_trial_without_a_metric_continues_and_does_not_count(name: str, metric: str, missing: Any) -> None:
    made = early_stopping(name)
    for number, point in enumerate(FRONT[:6]):
        made.observe(number, epoch(*point, progress=0.3))
    record = {**epoch(10, 1.65, progress=0.3), metric: missing}
    if missing == "absent":
        del record[metric]
    assert not made.observe(6, record)
    assert 6 not in made.counted[0].entries
    assert made.rung(6) == 0
    assert not made.observe(7, epoch(10, 1.65, progress=0.3)), "that is only the seventh"
    assert made.observe(8, epoch(10, 1.65, progress=0.3))


def test_a_model_without_weights_has_no_cost_to_compare() -> None:
    made = early_stopping()
    assert not made.observe(0, epoch(10, 1.0, gflops_final=0.0))
    assert not made.counted


def test_spread_by_hand() -> None:
    layer = np.array([[0.25, 0.75], [1, 0], [0, 1], [0.5, 0.5]])
    assert spread(layer, np.zeros(4)) == [2, 1, 3, 0], "least error, least cost, then the widest gap"
    copies = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    assert spread(copies, np.array([0.9, 0.1, 0.5])) == [1, 2, 0]
    assert spread(np.array([[3.0, 4.0]]), np.zeros(1)) == [0]


def test_axes_are_scaled_from_the_ideal_to_the_nadir() -> None:
    points = np.array([[10.0, 2.0], [30.0, 1.0], [90.0, 1.5]])
    layers = np.array([0, 0, 1])
    assert normalised(points, layers).tolist() == [[0, 1], [1, 0], [4, 0.5]]
    one_on_front = np.array([[10.0, 1.0], [30.0, 1.0], [90.0, 1.0]])
    assert normalised(one_on_front, np.array([0, 1, 2])).tolist() == [[0, 0], [0.25, 0], [1, 0]]


def test_the_trend_by_hand() -> None:
    cost = np.arange(9.0)
    error = np.array([10, 10, 10, 4, 4, 4, 1, 1, 1.0])
    expected = [12, 10, 8, 6, 4, 3, 2, 1, 0]  # through the medians (1, 10), (4, 4) and (7, 1)
    np.testing.assert_allclose(trend(error, cost), expected)
    np.testing.assert_allclose(trend(np.where(cost == 2, 90, error), cost), expected)  # one diverged trial
    np.testing.assert_allclose(trend(20 - 2 * cost, cost), 20 - 2 * cost)
    np.testing.assert_allclose(
        trend(np.where(cost > 6, 90, error), cost), np.maximum(expected, 4)
    )  # two of the last third
    assert trend(error, np.zeros(9)).tolist() == [4.0] * 9
    assert residual_rank(0, np.stack([error, cost], axis=1), np.arange(9.0)) == 1  # residuals -2 0 2 -2 0 1 -1 0 1
    assert residual_rank(3, np.stack([error, cost], axis=1), np.arange(9.0)) == 2
    assert residual_rank(2, np.stack([error, cost], axis=1), np.arange(9.0)) == 9


# Whole numbers, so that ties and copies are common and a change of units by a power of two rounds nothing.
axis = st.integers(0, 12).map(float)
sets_of_points = st.lists(st.tuples(axis, axis), min_size=1, max_size=24)


def with_ties(points: list[tuple[float, float]]) -> tuple[Any, Any]:
    return np.array(points), np.random.default_rng(len(points)).permutation(len(points)) / len(points)


def pareto_rank(index: int, points: Any, ties: Any) -> int:
    """Return the rank of point ``index``, the last that a rung gets."""
    rung = Rung()
    for trial in [*range(index), *range(index + 1, len(points)), index]:
        rung.add(trial, (*points[trial].tolist(), float(ties[trial])))
    return next(rank for rank in range(1, len(points) + 1) if not rung.is_below(rank, "ramp_pareto"))


@given(sets_of_points)
def test_the_pareto_rank_is_by_layer_and_then_by_spread(points: list[tuple[float, float]]) -> None:
    table, ties = with_ties(points)
    layers = pareto_layers(table, GOALS)
    places = normalised(table, layers)
    order = [
        own[place]
        for layer in range(layers.max() + 1)
        for own in [np.flatnonzero(layers == layer)]
        for place in spread(places[own], ties[own])
    ]
    assert [pareto_rank(index, table, ties) for index in order] == list(range(1, len(points) + 1))


@given(sets_of_points)
def test_layers_of_points_that_come_one_by_one(points: list[tuple[float, float]]) -> None:
    made = Layers()
    for count, point in enumerate(points, start=1):
        found = made.add(*point, count - 1)
        expected = pareto_layers(points[:count], GOALS)
        assert found == expected[-1]
        assert [sorted(trial for *_, trial in layer) for layer in made.layers] == [
            np.flatnonzero(expected == layer).tolist() for layer in range(expected.max() + 1)
        ]
        for layer in made.layers:
            assert layer == sorted(layer, key=lambda member: (member[0], -member[1]))


@pytest.mark.parametrize("rank", [pareto_rank, residual_rank])
@given(sets_of_points)
def test_ranks_are_one_to_n(rank: Any, points: list[tuple[float, float]]) -> None:
    table, ties = with_ties(points)
    assert sorted(rank(index, table, ties) for index in range(len(points))) == list(range(1, len(points) + 1))


@given(sets_of_points)
def test_a_dominated_trial_ranks_behind(points: list[tuple[float, float]]) -> None:
    table, ties = with_ties(points)
    ranks = [pareto_rank(index, table, ties) for index in range(len(points))]
    for a, rank_a in zip(points, ranks, strict=True):
        for b, rank_b in zip(points, ranks, strict=True):
            if a != b and a[0] <= b[0] and a[1] <= b[1]:
                assert rank_a < rank_b


@pytest.mark.parametrize("rank", [pareto_rank, residual_rank])
@given(sets_of_points, st.randoms(use_true_random=False))
def test_ranks_do_not_depend_on_the_order_of_arrival(rank: Any, points: list[tuple[float, float]], random: Any) -> None:
    table, ties = with_ties(points)
    order = np.arange(len(points))
    random.shuffle(order)
    for place, index in enumerate(order):
        assert rank(place, table[order], ties[order]) == rank(int(index), table, ties)


@pytest.mark.parametrize("rank", [pareto_rank, residual_rank])
@given(sets_of_points, st.integers(-6, 6), st.integers(-6, 6), st.integers(-9, 9))
def test_ranks_do_not_depend_on_units(
    rank: Any, points: list[tuple[float, float]], error: int, cost: int, shift: int
) -> None:
    """Another unit of gflops shifts their logarithm, another base scales it."""
    table, ties = with_ties(points)
    other = table * (2.0**error, 2.0**cost) + (0, shift)
    for index in range(len(points)):
        assert rank(index, other, ties) == rank(index, table, ties)


metric = st.integers(0, 100).map(float)
numbers = metric | st.sampled_from([None, nan, inf])
records = st.builds(
    epoch,
    numbers,
    st.integers(1, 64).map(float) | st.sampled_from([None, nan]),
    st.sampled_from([None, 0.1, 0.3, 0.7, 1.0]),
    st.sampled_from([0.2, 0.3, 0.65, 0.8, 1.0]),
    gflops_final=st.integers(0, 64).map(float) | st.none(),
)
streams = st.lists(st.tuples(st.integers(0, 25), records), max_size=80)
names = st.sampled_from(["none", *RULES, "asha"])


@given(streams, names, st.integers(0, 3))
def test_the_state_is_a_function_of_the_observed_records(stream: list[Any], name: str, seed: int) -> None:
    first, second = (early_stopping(name, seed) for _ in range(2))
    assert [first.observe(*item) for item in stream] == [second.observe(*item) for item in stream]
    assert first == second
    json.dumps([rung.entries for rung in first.counted.values()], allow_nan=False)  # plain finite numbers


@given(streams, st.sampled_from([*RULES, "asha"]), st.sets(st.integers(0, 25)), st.sampled_from([1, 3, 80]))
def test_a_rebuilt_state_is_that_of_observing_each_epoch(
    stream: list[Any], name: str, judged: set[int], rows: int
) -> None:
    """Rungs, and what they decide of the trials that still run; whether the epochs are in one block or in many."""
    each, rebuilt = (early_stopping(name, reduction_factor=4.0, min_trials=2) for _ in range(2))
    stopped = {trial for trial, record in stream if each.observe(trial, record, judge=trial in judged)}
    blocks = [
        {"trial": np.array([trial for trial, _ in block])}
        | {column: np.array([record.get(column) for _, record in block], dtype=float) for column in JUDGED}
        for block in (stream[start : start + rows] for start in range(0, len(stream), rows))
    ]
    assert rebuild(rebuilt, blocks, judged) == stopped
    assert rebuilt == each
    last = (99, epoch(50.0, 8.0, progress=0.3))
    assert rebuilt.observe(*last) == each.observe(*last)


@given(streams, st.integers(0, 3))
def test_without_early_stopping_nothing_is_stopped_or_kept(stream: list[Any], seed: int) -> None:
    made = early_stopping("none", seed)
    assert not any(made.observe(*item) for item in stream)
    assert made == early_stopping("none", seed)


@given(streams, st.sampled_from(RULES))
def test_a_trial_on_the_front_of_its_rung_continues(stream: list[Any], name: str) -> None:
    made = early_stopping(name, reduction_factor=100.0, min_trials=1)
    for trial, record in stream:
        stopped, rung = made.observe(trial, record), made.rung(trial)
        if stopped:
            assert rung is not None
            (error, cost, _), others = made.counted[rung].entries[trial], made.counted[rung].entries.values()
            assert any((e, c) != (error, cost) and e <= error and c <= cost for e, c, _ in others)
            bin_ = math.floor((cost - min(c for _, c, _ in others)) / math.log(2) + 1e-9)
            in_bin = [
                e for e, c, _ in others if math.floor((c - min(o[1] for o in others)) / math.log(2) + 1e-9) == bin_
            ]
            assert sorted(in_bin)[1] < error


@given(
    st.lists(st.tuples(metric, st.integers(1, 64).map(float)), min_size=8, max_size=30),
    st.sampled_from([*RULES, "asha"]),
    st.randoms(use_true_random=False),
)
def test_a_decision_does_not_depend_on_the_order_of_the_others(points: list[Any], name: str, random: Any) -> None:
    order = list(range(len(points) - 1))
    first, second = (early_stopping(name, 5) for _ in range(2))
    for number in order:
        first.observe(number, epoch(*points[number], progress=0.3))
    random.shuffle(order)
    for number in order:
        second.observe(number, epoch(*points[number], progress=0.3))
    last = (len(points) - 1, epoch(*points[-1], progress=0.3))
    assert first.observe(*last) == second.observe(*last)


@pytest.mark.parametrize("name", ["ramp_pareto", "residual", "asha"])
def test_a_trial_that_is_not_judged_counts_for_those_that_are(name: str) -> None:
    """A resumed run judges only trials that still run: their answers are those of the run before."""
    rng = random.Random(5)
    points = [(rng.uniform(50, 90), rng.uniform(0.01, 10), rng.choice([0.3, 0.7])) for _ in range(60)]
    whole, again = (EarlyStopping(EarlyStoppingConfig(name=name), seed=0) for _ in range(2))
    answers = []
    for number, (top1, gflops, progress) in enumerate(points):
        record = epoch(top1, gflops, progress=progress)
        judged = number % 3 == 0
        answers.append(whole.observe(number, record))
        assert again.observe(number, record, judge=judged) == (answers[-1] and judged)
    assert sum(answers[::3]) > 3
