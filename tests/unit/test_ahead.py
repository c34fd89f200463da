"""The Gaussian process: its proposals, made ahead in a process, and what slots get meanwhile."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from driven_sweep import SPACE, result
from optuna.distributions import CategoricalDistribution, FloatDistribution

from st3sweep.reporting.json_events import JsonEvents
from st3sweep.search import ahead
from st3sweep.search.ahead import ProposalsAhead
from st3sweep.search.gp_process import Request, propose
from st3sweep.search.searcher import Searcher
from st3sweep.space.loading import load_space
from st3sweep.space.space import Point, Space
from st3sweep.sweep.state import Sweep


@pytest.fixture
def space(tmp_path: Path) -> Space:
    text = SPACE.replace("sampler: random", "sampler: gp, startup_trials: 4") + "budget: {trials: 12}\n"
    (tmp_path / "space.yaml").write_text(text)
    (tmp_path / "run").mkdir()
    return load_space(tmp_path / "space.yaml")


def cheap_is_good(point: Point) -> list[float]:
    cost = 1 - point["sparsity.target"]
    return [100 - cost - abs(point["optim.lr"] - 0.5), cost]


def told(searcher: Searcher, trials: int) -> list[Point]:
    points = []
    for _ in range(trials):
        number, point = searcher.ask()
        searcher.tell(number, cheap_is_good(point))
        points.append(point)
    return points


@pytest.mark.long
def test_it_proposes_ahead_and_learns_two_objectives(space: Space, tmp_path: Path) -> None:
    """Better points than at random: here, the cheapest are the best. Constraints hold, and no point comes twice."""
    searcher = Searcher(space, tmp_path / "run")
    start = told(searcher, 4)
    points, samplers = [], []
    for _ in range(6):
        searcher.ahead.wait()
        points += told(searcher, 1)
        samplers.append(searcher.position().get("sampler"))
    searcher.close()
    assert samplers == [None] * 6, "all by the Gaussian process"
    assert len({str(point) for point in start + points}) == 10
    costs = [[cheap_is_good(point)[1] for point in some] for some in (start, points)]
    assert sum(costs[1]) / 6 < 0.6 * sum(costs[0]) / 4


def request(seed: int, running: list[dict[str, Any]]) -> Request:
    distributions = {"x": FloatDistribution(0, 1), "kind": CategoricalDistribution(["a", "b"])}
    points = [{"x": x / 5, "kind": "ab"[x % 2]} for x in range(6)]
    complete = [(point, [(point["x"] - 0.3) ** 2, -point["x"]]) for point in points]
    return Request(seed, ("minimize", "minimize"), distributions, complete, running)


def test_a_proposal_follows_from_the_request() -> None:
    point = propose(request(1, []))
    assert point == propose(request(1, []))
    assert 0 <= point["x"] <= 1
    assert point["kind"] in ("a", "b")
    assert propose(request(1, []).beside(point, 1)) != point, "a running trial's point is not proposed again"


# -- without a proposal ------------------------------------------------------------------------------------------------


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that answers too late."""
    monkeypatch.setattr(ahead, "_PROGRAM", "import time; time.sleep(600)  # {}")


def program(space: Space, folder: Path) -> Sweep:
    return Sweep(space, folder, JsonEvents(None, io.StringIO()))


def train(sweep: Sweep, trials: int) -> None:
    for _ in range(trials):
        trial = sweep.next_trial()
        assert trial is not None
        sweep.record(trial.number, result(trial))


@pytest.mark.usefixtures("slow")
def test_a_slot_that_is_free_meanwhile_gets_a_point_by_tpe_as_the_ledger_says(space: Space, tmp_path: Path) -> None:
    """A resumed run knows it, and continues as an undisturbed one: all points are TPE's here."""
    (tmp_path / "other").mkdir()
    sweep, other = program(space, tmp_path / "run"), program(space, tmp_path / "other")
    train(other, 12)
    train(sweep, 8)
    sweep.searcher.close()
    sweep.ledger.close()  # killed
    resumed = program(space, tmp_path / "run")
    assert [trial.sampler for trial in resumed.ledger.trials.values()] == [None] * 4 + ["tpe"] * 4
    train(resumed, 4)
    points = [[trial.params for trial in one.ledger.trials.values()] for one in (resumed, other)]
    assert points[0] == points[1]
    assert len({str(point) for point in points[0]}) == 12
    tpe = [trial.number for trial in resumed.searcher.study.trials if trial.user_attrs.get("sampler") == "tpe"]
    assert tpe == list(range(4, 12))
    process = resumed.searcher.ahead._process
    assert process is not None
    assert resumed.next_trial() is None
    process.wait(10)  # the search is over: nothing more to propose
    other.close()


def test_where_its_process_does_not_start_tpe_proposes_and_the_user_is_told(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "_PROGRAM", "raise SystemExit(3)  # {}")
    said: list[str] = []
    searcher = Searcher(space, tmp_path / "run", say=said.append)
    told(searcher, 4)
    for _ in range(6):
        searcher.ahead.wait()
        told(searcher, 1)
        assert searcher.position()["sampler"] == "tpe"
    assert said[-1] == "the Gaussian process could not propose a point, TPE does instead: its process ended 3 times"
    assert len(said) <= 3


def test_of_two_requests_the_later_counts_and_unacceptable_points_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process here proposes as x the number of trials that run, divided by 10."""
    proposals = "lambda request: dict(x=len(request.running) / 10)"
    program = (
        f"import sys; sys.path[:] = {{}}; from st3sweep.search import gp_process; gp_process.propose = {proposals}"
    )
    monkeypatch.setattr(ahead, "_PROGRAM", program + "; gp_process.serve()")
    proposed = ProposalsAhead(lambda params: params["x"] != 0.3)
    proposed.want(request(1, []), 2)
    proposed.want(request(1, [{"x": 0.5, "kind": "a"}] * 2), 3)
    proposed.wait()
    assert [proposed.take() for _ in range(4)] == [{"x": 0.2}, {"x": 0.4}, {"x": 0.5}, None]
    proposed.close()
