"""Test fronts over measured latency: pick, pareto, the table and the plot of a small stored run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from st3sweep.analysis.plots import plot_run
from st3sweep.analysis.report.data import report_data
from st3sweep.analysis.tables import front_table, load_trials, objectives_over
from st3sweep.commands.opened_run import Run
from st3sweep.commands.results import print_pareto, print_pick
from st3sweep.runs.folder import RESOLVED
from st3sweep.runs.tables import table_path, write_table
from st3sweep.util.errors import UserError

# trial: accuracy, GFLOPs, ms, disturbed, MB. By GFLOPs 0, 1 and 3 are on the front; by time 2 and 3; 4 is not measured.
TRIALS = [(90.0, 1.0, 3.0, False, 0.5), (91.0, 2.0, 3.5, True, 0.4), (92.0, 4.0, 2.0, False, 0.3)]
TRIALS += [(93.0, 3.0, 2.5, None, 0.2), (80.0, 2.5, None, None, 0.9)]
LATENCY = [{"metric": "val_top1", "goal": "max"}, {"metric": "latency_ms", "goal": "min"}]


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., Path]:
    def store(objectives: Any = LATENCY, measured: bool = True) -> Path:
        rows = []
        for number, (top1, gflops, latency, disturbed, size) in enumerate(TRIALS):
            row = {"trial": number, "status": "finished", "method": "ST-3", "model": "resnet8", "dataset": "digits"}
            row |= {"val_top1": top1, "gflops": gflops, "gflops_dense": 8.0, "sparsity": 0.9, "digest": str(number)}
            if measured:
                row |= {"latency_ms": latency, "latency_disturbed": disturbed, "size_mb": size}
            rows.append(row)
        write_table(table_path(tmp_path, "trials"), "trials", rows)
        (tmp_path / RESOLVED).write_text(yaml.safe_dump({"objectives": objectives}))
        return tmp_path

    return store


def test_the_front_is_over_the_cost_that_was_searched(stored: Callable[..., Path]) -> None:
    run = Run(stored())
    assert run.front()["trial"].tolist() == [2, 3]
    assert run.front("gflops")["trial"].tolist() == [0, 1, 3]
    assert run.front("size")["trial"].tolist() == [3]
    three = Run(stored([*LATENCY, {"metric": "gflops", "goal": "min"}]))
    assert three.front()["trial"].tolist() == [0, 1, 3]
    assert three.front("latency_ms")["trial"].tolist() == [2, 3]


def test_a_run_without_latency_says_how_to_measure_it(stored: Callable[..., Path]) -> None:
    run = stored(measured=False)
    assert Run(run).front()["trial"].tolist() == [0, 1, 3]
    with pytest.raises(UserError, match=r"--x latency: no trial has it; measure them with: st3sweep measure"):
        print_pareto([run], x="latency", as_json=True, plot=None)
    with pytest.raises(UserError, match=r"--max-latency 2: no trial has it"):
        print_pick(run, None, None, 2.0, as_json=True)
    with pytest.raises(UserError, match="--x speed: allowed: gflops, latency, size"):
        print_pareto([run], x="speed", as_json=True, plot=None)


@pytest.mark.parametrize(
    ("limits", "picked"),
    [
        ({"max_latency": 2.4}, 2),
        ({"max_latency": 9.0}, 3),
        ({"max_latency": 9.0, "max_gflops": 2.0}, 1),  # of those within 2 GFLOPs
        ({"max_gflops": 2.0}, 1),  # by GFLOPs, whatever was searched
        ({"min_accuracy": 92.5}, 3),
        ({"min_accuracy": 90.0}, 2),  # the fastest; by GFLOPs it would be 0
        ({}, 3),
    ],
)
def test_pick(
    stored: Callable[..., Path], capsys: pytest.CaptureFixture[str], limits: dict[str, float], picked: int
) -> None:
    run = stored()
    assert Run(run).pick(**limits)["trial"] == picked
    limits = {"max_gflops": None, "min_accuracy": None, **limits}  # type: ignore[dict-item]
    print_pick(run, as_json=True, **limits)
    assert json.loads(capsys.readouterr().out)["trial"] == picked


def test_no_trial_is_fast_enough(stored: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="no trial of the front meets the limits"):
        print_pick(stored(), None, None, 1.0, as_json=False)


def test_the_table_marks_predicted_and_disturbed(stored: Callable[..., Path]) -> None:
    trials = load_trials(stored())
    lines = front_table(trials).splitlines()
    assert [line.split()[-2:] for line in lines] == [
        ["ms", "MB"],
        ["3.00", "0.500"],
        ["3.50*", "0.400"],
        ["2.50~", "0.200"],
    ]


def test_the_plot_is_over_time(stored: Callable[..., Path]) -> None:
    run = stored()
    trials = load_trials(run)
    (axes,) = plot_run(trials, objectives_over(trials, run)).axes
    assert axes.get_xlabel() == "time of one image in the sparse runtime (ms)"
    rings = next(one for one in axes.collections if one.get_label() == "front")
    assert rings.get_offsets().tolist() == [[2.0, 92.0], [2.5, 93.0]]
    assert not [text.get_text() for text in axes.texts if "dense" in text.get_text()]


def test_published_costs_are_in_gflops(stored: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="--against: compares costs in GFLOPs only; add --x gflops"):
        print_pareto([stored()], against="published", as_json=True, plot=None)


def test_the_report_can_show_time(stored: Callable[..., Path]) -> None:
    data = report_data(stored(), brief=True)
    assert data["trials"]["on_front"] == [True, True, False, True, False]
    over = data["over"]["latency_ms"]
    assert over == {"unit": "ms", "values": [3.0, 3.5, 2.0, 2.5, None], "on_front": [False, False, True, True, False]}
    assert data["over"]["size_mb"]["on_front"] == [False, False, False, True, False]
