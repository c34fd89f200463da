"""The trials that TPE fits."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
from driven_sweep import SPACE
from hypothesis import given, settings
from hypothesis import strategies as st

from st3sweep.pareto import pareto_mask
from st3sweep.search import fitted_trials
from st3sweep.search.fitted_trials import FittedTrials
from st3sweep.search.searcher import Searcher
from st3sweep.space.loading import load_space

COSTS = st.none() | st.lists(st.integers(0, 9).map(float), min_size=2, max_size=2)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FITTED": 20, "FRONT": 4, "NEWEST": 8}.items():
        monkeypatch.setattr(fitted_trials, name, value)


@pytest.mark.usefixtures("small")
def test_what_is_fitted_of_a_long_sweep() -> None:
    """Of 200 trials, 50 on a line that is the front: its ends and two between, and 16 off it, 8 the newest."""
    fitted = FittedTrials(2)
    for number in range(200):
        on_front, at = number % 4 == 0, number / 4
        fitted.add(number, [at, -at] if on_front else [at + 60, 60 - at])
    chosen = fitted.chosen()
    assert len(chosen) == 20
    assert chosen == sorted(set(chosen))
    assert [number for number in chosen if number % 4 == 0] == [0, 64, 132, 196], "of 50: the 0th, 16th, 33rd and 49th"
    newest = [190, 191, 193, 194, 195, 197, 198, 199]
    others = [number for number in chosen if number % 4 and number not in newest]
    assert set(newest) <= set(chosen)
    assert others[0] < 60
    assert 120 < others[-1] < 190


@given(st.lists(COSTS, max_size=40), st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_the_choice_does_not_depend_on_the_order_in_which_trials_end(costs: list[list[float] | None], rng) -> None:  # type: ignore[no-untyped-def]
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, value in {"FITTED": 12, "FRONT": 5, "NEWEST": 4}.items():
            monkeypatch.setattr(fitted_trials, name, value)
        first, second = FittedTrials(2), FittedTrials(2)
        shuffled = list(enumerate(costs))
        for number, one in shuffled:
            first.add(number, one)
        rng.shuffle(shuffled)
        second.add(1000, None)
        for number, one in shuffled:
            second.add(number, one)
        second.discard(1000)
        assert first.chosen() == second.chosen()
        chosen, front = first.chosen(), set(first._front.tolist())
        assert chosen == list(range(len(costs))) or len(costs) > 12 >= len(chosen)
        assert len(costs) <= 12 or len(front & set(chosen)) == min(len(front), 5)
        known = [number for number, one in enumerate(costs) if one is not None]
        values = numpy.array([costs[number] for number in known]).reshape(-1, 2)
        points = {tuple(point) for point in values[pareto_mask(values, ("min", "min"))].tolist()}
        assert {tuple(costs[number] or ()) for number in front} == points
        assert len(front) == len(points), "copies are represented by one"


def test_below_the_bound_proposals_are_those_of_optuna(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE.replace("sampler: random", "sampler: tpe") + "budget: {trials: 30}\n")
    space = load_space(tmp_path / "space.yaml")
    found = []
    for name in ("bounded", "all"):
        (tmp_path / name).mkdir()
        searcher = Searcher(space, tmp_path / name)
        searcher._run.proposals._bounded = name == "bounded"
        points, running = [], []
        for _ in range(20):
            number, point = searcher.ask()
            points.append(point)
            running.append((number, point))
            if len(running) == 3:
                number, point = running.pop(0)
                searcher.tell(number, [90 - 50 * point["sparsity.target"] - point["optim.lr"], point["optim.lr"]])
        found.append(points)
    assert found[0] == found[1]
