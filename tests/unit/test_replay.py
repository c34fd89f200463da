"""Replay: the simulated sweep and the comparison by hand, and properties of any run."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from st3sweep import cli
from st3sweep.analysis.replay_plots import plot_replays
from st3sweep.early_stopping.replay import Estimate, _compare, replay, replay_table
from st3sweep.early_stopping.rules import EarlyStopping
from st3sweep.early_stopping.simulation import Curve, simulate
from st3sweep.runs.tables import SCHEMAS, read_table, table_path, write_table
from st3sweep.space.early_stopping import EarlyStoppingConfig
from st3sweep.util.errors import UserError

NONE = EarlyStoppingConfig()


class Stops(EarlyStopping):
    """Early stopping that stops each trial of ``at`` after the given epoch, and records what it observes."""

    def __init__(self, **at: int):
        super().__init__(NONE, 0)
        self.at, self.shown = {int(name[1:]): epoch for name, epoch in at.items()}, []

    def observe(self, trial: int, record: Any) -> bool:
        self.shown.append((trial, record["epoch"]))
        return self.at.get(trial) == record["epoch"]


def curve(trial: int, *costs: float) -> Curve:
    return Curve(trial, [{"epoch": epoch} for epoch in range(1, len(costs) + 1)], costs)


CURVES = [curve(0, 1, 1), curve(1, 2, 2), curve(2, 1, 1, 1.5)]


def test_slots_by_hand() -> None:
    # Slot 0: trial 0 to 2, then trial 2 to 3, 4 and 5.5. Slot 1: trial 1 to 2 and 4, then nothing is left.
    early_stopping = Stops()
    done = simulate(CURVES, [0, 1, 2], early_stopping, slots=2)
    assert early_stopping.shown == [(0, 1), (0, 2), (1, 1), (2, 1), (2, 2), (1, 2), (2, 3)]
    assert done.finished.all()
    assert done.compute_at_end.tolist() == [4, 8, 9.5]
    assert done.compute == 9.5
    one = simulate(CURVES, [2, 0, 1], Stops(), slots=1)
    assert one.compute_at_end.tolist() == [5.5, 9.5, 3.5]
    assert simulate(CURVES, [0, 1, 2], Stops(), slots=5).compute == 9.5, "slots without a trial cost nothing"


def test_a_stopped_trial_frees_its_slot() -> None:
    early_stopping = Stops(t1=1)
    done = simulate(CURVES, [1, 0, 2], early_stopping, slots=1, overshoot=0)
    assert early_stopping.shown == [(1, 1), (0, 1), (0, 2), (2, 1), (2, 2), (2, 3)]
    assert done.finished.tolist() == [True, False, True]
    assert done.compute == 7.5


def test_a_stopped_trial_trains_one_more_epoch() -> None:
    early_stopping = Stops(t2=1)
    done = simulate(CURVES, [2, 0, 1], early_stopping, slots=1)
    assert early_stopping.shown[:3] == [(2, 1), (2, 2), (0, 1)]
    assert done.finished.tolist() == [True, True, False]
    assert done.compute == 8
    late = simulate(CURVES, [0, 1, 2], Stops(t0=1, t1=2), slots=1)
    assert late.finished.all(), "the epoch more was the last, so the trial has finished"


def run_of(points: list[tuple[float, float]], epochs: int = 4, seconds: float = 1.0) -> tuple[Any, Any]:
    """Make tables of trials with results ``points`` (val_top1, gflops), at their final accuracy from epoch 1 on."""
    trials = [
        {"trial": number, "status": "finished", "val_top1": top1, "gflops": gflops}
        for number, (top1, gflops) in enumerate(points)
    ]
    rows = [
        {"trial": t["trial"], "epoch": epoch, "progress": epoch / epochs, "ramp_progress": min(1.0, 2 * epoch / epochs),
         "gflops": t["gflops"], "gflops_final": t["gflops"], "val_top1": t["val_top1"], "seconds": seconds}
        for t in trials for epoch in range(1, epochs + 1)
    ]  # fmt: skip
    return pd.DataFrame(trials), pd.DataFrame(rows)


CLEAR = [(80.0, 1.0), (90.0, 4.0)] + [(50.0 + number, 2.0) for number in range(18)]  # two are the front, 18 are bad
ASHA = EarlyStoppingConfig(name="asha", rungs=(0.5,), min_trials=1)


def test_by_hand_without_stopping() -> None:
    found = replay(*run_of(CLEAR), NONE, orders=20)
    assert (found.trials, found.front) == (20, 2)
    for name in ("stopped", "front_lost", "compute_saved"):
        assert getattr(found, name) == Estimate(pytest.approx(0), pytest.approx(0))
    for name in ("hypervolume", "hypervolume_random", "hypervolume_ratio"):
        assert getattr(found, name) == Estimate(pytest.approx(1), pytest.approx(0))
    # The sweep also pays for trials still running in other slots; with one slot there are none.
    assert 0.8 < found.compute_ratio.mean < 1
    assert replay(*run_of(CLEAR), NONE, orders=20, slots=1).compute_ratio == Estimate(
        pytest.approx(1), pytest.approx(0)
    )


def test_two_trials_by_hand() -> None:
    """Only trial 0 is on the front. With one slot, the second trial is judged; trial 1 is stopped if it is second.

    All cost 4 epochs. The order 0, 1: trial 1 is stopped after 2 of its epochs, so 6 are paid, and both searches have
    everything with the first 4. The order 1, 0: none is stopped, and both have everything with all 8.
    """
    tables = run_of([(80.0, 1.0), (70.0, 2.0)])
    found = replay(*tables, ASHA, orders=100, slots=1, overshoot=0, unit="epochs")
    first = found.stopped.mean  # fraction of orders with trial 0 first
    assert 0.3 < first < 0.7
    assert found.compute_saved.mean == pytest.approx(first * 2 / 8)
    for name in ("hypervolume", "hypervolume_random", "hypervolume_ratio", "compute_ratio"):
        assert getattr(found, name) == Estimate(pytest.approx(1), pytest.approx(0))
    assert found.front_lost == Estimate(0, 0)
    sure = replay(*tables, ASHA, orders=100, slots=1, unit="epochs")
    assert sure.compute_saved.mean == pytest.approx(first * 1 / 8), "an epoch more is trained"


def test_ratios_by_hand() -> None:
    """The front is (1, 0) and (0, 1): up to (1.1, 1.1) each has 0.11, and both have 0.21.

    Two others are bad. One slot, 4 epochs a trial, and early stopping that stops these two after the first.
    """
    table = np.array([[1.0, 0.0], [0.0, 1.0], [3.0, 0.7], [2.0, 0.7]])
    costs = np.full(4, 4.0)
    curves = [curve(number, 1, 1, 1, 1) for number in range(4)]
    front = np.array([True, True, False, False])

    def compare(order: list[int], **stopped: int) -> dict[str, Any]:
        done = simulate(curves, order, Stops(**stopped), slots=1, overshoot=0)
        return _compare(done, np.array(order), costs, table, front)

    late = compare([2, 0, 3, 1], t2=1, t3=1)
    assert late["compute_saved"] == 6 / 16
    assert (late["stopped"], late["front_lost"], late["hypervolume"]) == (2, 0, 1)
    assert late["hypervolume_random"] == pytest.approx(11 / 21), "10 of 16 epochs: trials 2 and 0, and half of trial 3"
    assert late["compute_ratio"] == 16 / 10
    early = compare([0, 1, 2, 3], t2=1, t3=1)
    assert early["hypervolume_random"] == early["compute_ratio"] == 1, "it had all before it stopped anyone"
    lossy = compare([2, 0, 3, 1], t1=1)
    assert lossy["front_lost"] == 1
    assert lossy["hypervolume"] == pytest.approx(11 / 21)
    # 13 epochs are paid in all: after 12 the search without stopping has 11/21, and with the next 4 all.
    assert lossy["hypervolume_random"] == pytest.approx(11 / 21 + 1 / 4 * 10 / 21)
    assert lossy["compute_ratio"] == 1, "both have 11/21 after 8 epochs"
    assert compare([0, 1, 2, 3], t0=1, t1=1)["compute_ratio"] == 0, "the others are beyond the reference"


@pytest.mark.long
def test_losing_the_front_shows() -> None:
    """Asha stops the cheap end of the front unless it comes early; the Pareto rule never does."""
    tables = run_of(CLEAR)
    asha = replay(*tables, EarlyStoppingConfig(name="asha"), orders=50)
    pareto = replay(*tables, EarlyStoppingConfig(name="ramp_pareto"), orders=50)
    assert pareto.front_lost == Estimate(0, 0)
    assert pareto.hypervolume == Estimate(1, 0)
    assert pareto.hypervolume_ratio.mean > 1.02
    assert pareto.compute_ratio.mean > 1.0
    many = run_of([(80.0 - number, 1.0 / 2**number) for number in range(20)])
    lost = replay(*many, EarlyStoppingConfig(name="asha"), orders=50)
    assert lost.front == 20
    assert lost.front_lost.mean > 5
    assert lost.hypervolume_ratio.mean < 0.97
    assert asha.stopped.mean > 5


def test_seconds_or_epochs() -> None:
    """With trial 1 three times as slow, stopping it halfway saves a different fraction of seconds than of epochs."""
    trials, epochs = run_of([(80.0, 1.0), (70.0, 2.0)])
    epochs.loc[epochs["trial"] == 1, "seconds"] = 3.0
    both = [replay(trials, epochs, ASHA, orders=50, slots=1, overshoot=0, unit=unit) for unit in ("seconds", "epochs")]
    assert both[0].compute_saved.mean == pytest.approx(both[0].stopped.mean * 6 / 16)
    assert both[1].compute_saved.mean == pytest.approx(both[1].stopped.mean * 2 / 8)


def test_the_seed_decides_the_orders() -> None:
    tables = run_of(CLEAR)
    spec = EarlyStoppingConfig(name="ramp_pareto")
    first, again, other = (replay(*tables, spec, orders=10, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.compute_saved != other.compute_saved


def test_the_curve_ends_at_the_reported_numbers() -> None:
    found = replay(*run_of(CLEAR), EarlyStoppingConfig(name="ramp_pareto"), orders=20)
    curve = found.curve
    assert curve["compute"][-1] == 1
    assert curve["stopping"][-1] == pytest.approx(found.hypervolume.mean)
    assert curve["random"][-1] == pytest.approx(1)
    assert (np.diff(curve["stopping"]) >= 0).all()
    assert (np.diff(curve["random"]) >= 0).all()


def test_replicates_and_failed_or_unusable_trials_are_left_out() -> None:
    trials, epochs = run_of([*CLEAR, (99.0, 0.1), (99.0, 0.1), (99.0, 0.0)])
    trials["replicate_of"] = [None] * 20 + [3, None, None]
    trials.loc[21, "status"] = "failed"
    expected = replay(*run_of(CLEAR), NONE, orders=5)
    assert replay(trials, epochs, NONE, orders=5) == expected


def test_a_run_that_cannot_be_replayed() -> None:
    trials, epochs = run_of(CLEAR[:3])
    stopped = trials.assign(status=["stopped", "finished", "finished"])
    with pytest.raises(UserError, match="1 trial of this run stopped early"):
        replay(stopped, epochs, NONE)
    with pytest.raises(UserError, match="at least 2 finished trials; this run has 1"):
        replay(trials[:1], epochs, NONE)
    with pytest.raises(UserError, match="trial 2 has no epochs"):
        replay(trials, epochs[epochs["trial"] != 2], NONE)


def test_estimates_by_hand() -> None:
    found = Estimate.of(np.array([1.0, 2.0, 3.0]))
    assert found == Estimate(2.0, pytest.approx(4.302653 / math.sqrt(3)))  # Student's t of 2 degrees of freedom
    ratio = Estimate.ratio(np.array([2.0, 4.0, 6.0]), np.array([1.0, 2.0, 3.0]))
    assert ratio == Estimate(2.0, 0.0), "a ratio that is the same in every order is sure"
    assert Estimate.ratio(np.array([1.0, 2.0, 3.0]), np.ones(3)) == Estimate(2.0, pytest.approx(found.half_width))


def test_the_table() -> None:
    text = replay_table([replay(*run_of(CLEAR), NONE, orders=5)])
    title, _, head, row = text.splitlines()
    assert title.startswith("20 trials, 2 of them on the front")
    assert head.split("  ")[0] == "early stopping"
    assert row.split()[:4] == ["none", "0.0", "±", "0.0"]
    assert "100.00 ± 0.00" in row
    trials, epochs = run_of(CLEAR)
    old = replay(trials, epochs.drop(columns="ramp_progress"), NONE, orders=5)
    assert "no ramp_progress" in replay_table([old]).splitlines()[1]


@pytest.mark.long
def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, table in zip(("trials", "epochs"), run_of(CLEAR), strict=True):
        known = table[[column for column in table if column in SCHEMAS[name].names]]
        write_table(table_path(tmp_path, name), name, known.to_dict("records"))

    def said(*arguments: str) -> tuple[int | str | None, str, str]:
        monkeypatch.setattr(sys, "argv", ["st3sweep", "replay", str(tmp_path), "--orders", "10", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, *capsys.readouterr()

    assert tuple(cli.tables.RuleName) == get_args(EarlyStoppingConfig.model_fields["name"].annotation)
    code, out, _ = said()
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[-3:]] == ["ramp_pareto", "residual", "asha"]
    expected = replay(
        read_table(tmp_path, "trials"), read_table(tmp_path, "epochs"),
        EarlyStoppingConfig(name="residual", reduction_factor=3),
        slots=2, seed=5, orders=10, unit="epochs", overshoot=0,
    )  # fmt: skip
    options = ["--rule", "residual", "--reduction-factor", "3", "--slots", "2", "--seed", "5"]
    _, out, _ = said(*options, "--cost", "epochs", "--overshoot", "0", "--json")
    (found,) = json.loads(out)
    assert found["compute_saved"] == pytest.approx(vars(expected.compute_saved))
    assert found["curve"]["stopping"] == pytest.approx(expected.curve["stopping"])
    assert found["early_stopping"]["name"] == "residual"
    assert said("--plot", str(tmp_path / "replay.png"))[0] == 0
    assert (tmp_path / "replay.png").stat().st_size > 10_000
    assert said("--reduction-factor", "1") == (2, "", "st3sweep: --reduction-factor 1: must be above 1\n")


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(10, 99), st.integers(1, 50)), min_size=2, max_size=20, unique=True),
    st.sampled_from(["ramp_pareto", "residual", "asha"]),
    st.integers(1, 5),
)
def test_properties_of_any_run(points: list[tuple[int, int]], name: str, slots: int) -> None:
    tables = run_of([(float(top1), gflops / 10) for top1, gflops in points])
    found = replay(*tables, EarlyStoppingConfig(name=name, min_trials=2), slots=slots, orders=4)
    assert 0 <= found.compute_saved.mean < 1
    assert found.front_lost.mean <= found.stopped.mean <= len(points)
    assert 0 <= found.hypervolume.mean <= 1 + 1e-12
    assert found.compute_ratio.mean >= 0
    if name != "asha":
        assert found.front_lost.mean == 0, "accuracies do not change here, so who ends on the front always was there"
        assert found.hypervolume.mean == pytest.approx(1)


def test_the_plot_has_a_line_for_each_rule_which_ends_at_its_compute() -> None:
    tables = run_of(CLEAR)
    found = [
        replay(*tables, EarlyStoppingConfig(name=name, min_trials=2), orders=4) for name in ("ramp_pareto", "asha")
    ]
    plain = [asdict(one) | {"early_stopping": one.early_stopping.model_dump()} for one in found]
    (axes,) = plot_replays({"a run": plain}).axes
    assert [line.get_label() for line in axes.lines] == ["no early stopping", "ramp_pareto", "asha"]
    for one, line in zip(found, axes.lines[1:], strict=True):
        assert line.get_xdata()[-1] == pytest.approx(1 - one.compute_saved.mean, abs=0.05)
    assert axes.lines[0].get_ydata()[-1] == pytest.approx(1.0)
