"""Test the hypervolume of a run over time and compute: by hand, from a ledger with a pause."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from st3sweep.analysis import plots
from st3sweep.analysis.fronts import front_hypervolume
from st3sweep.analysis.hypervolume_curves import hypervolume_curves, plot_hypervolume
from st3sweep.analysis.tables import load_trials
from st3sweep.runs.tables import ResultsError, table_path, write_table

# trial, status, second at which it ends, val_top1, gflops, replicate_of, reused_from. The run pauses from 30 to 1000.
TRIALS: list[tuple[int, str, float, float | None, float | None, int | None, str | None]] = [
    (0, "finished", 10, 80.0, 2.0, None, None),
    (1, "failed", 12, None, None, None, None),
    (2, "stopped", 20, None, None, None, None),
    (3, "finished", 1010, 70.0, 3.0, None, None),  # dominated
    (4, "finished", 1020, 60.0, 1.0, None, None),
    (5, "finished", 1030, 99.0, 1.0, 0, None),  # a replicate
    (6, "finished", 1040, 90.0, 2.0, None, "old/3"),  # replaces trial 0 on the front
    (7, "running", 0, None, None, None, None),
]
WALL = [10, 12, 20, 40, 50, 60, 70]
# Up to the dense cost of 4: (4-2)·80; then 1·60 more from 1 to 2; then 2·90 in place of 2·80.
AREA = [160, 160, 160, 160, 220, 220, 240]


def make(folder: Path, dense: float = 4.0) -> Path:
    folder.mkdir()
    events: list[dict[str, Any]] = [{"time": 0.0, "event": "session", "space": {}}]
    rows: list[dict[str, Any]] = []
    for number, status, end, top1, gflops, of, reused in TRIALS:
        chosen = {"params": {}, "spec": {}, "digest": "x", "workers": 1}
        events.append({"time": 0.0, "event": "trial", "trial": number, **chosen})
        if status != "running":
            events.append(
                {"time": end, "event": "done", "trial": number, "status": status, "result": {}, "error": None}
            )
        rows.append({
            "trial": number, "status": status, "val_top1": top1, "gflops": gflops, "gflops_dense": dense,
            "replicate_of": of, "reused_from": reused, "training_gflops": None if status == "failed" else 1000.0,
        })  # fmt: skip
    events += [{"time": 30.0, "event": "closed"}, {"time": 1000.0, "event": "session", "space": {}}]
    lines = sorted(events, key=lambda event: event["time"])
    (folder / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_table(table_path(folder, "trials"), "trials", rows)
    return folder


def test_hypervolume_after_each_trial_by_hand(tmp_path: Path) -> None:
    run = make(tmp_path / "a")
    curve = hypervolume_curves(run)
    assert curve["trial"].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert curve["wall_seconds"].tolist() == pytest.approx(WALL), "the pause does not count"
    assert curve["hypervolume"].tolist() == pytest.approx(AREA)
    assert curve["training_gflops"].tolist() == [1000, 1000, 2000, 3000, 4000, 5000, 5000]
    assert curve["hypervolume"].iloc[-1] == pytest.approx(front_hypervolume(load_trials(run)))
    other = hypervolume_curves(run, reference=(70.0, 2.5))["hypervolume"]
    assert other.tolist() == pytest.approx([5, 5, 5, 5, 5, 5, 10])


def test_several_runs_together(tmp_path: Path) -> None:
    first, second = make(tmp_path / "a"), make(tmp_path / "b")
    both = hypervolume_curves(first, second, first)
    assert both.groupby("run")["hypervolume"].last().to_dict() == {"a": 240, "b": 240}
    assert len(both) == 14
    with pytest.raises(ValueError, match="one dense cost"):
        hypervolume_curves(first, make(tmp_path / "c", dense=5.0))


def test_a_run_without_a_ledger_or_a_trial(tmp_path: Path) -> None:
    run = make(tmp_path / "a")
    write_table(table_path(run, "trials"), "trials", [])
    assert hypervolume_curves(run).empty
    plot_hypervolume(run).draw_without_rendering()
    (run / "ledger.jsonl").unlink()
    with pytest.raises(ResultsError, match=r"ledger\.jsonl: not found"):
        hypervolume_curves(run)


def test_plot_has_a_line_for_each_run_over_time_and_compute(tmp_path: Path) -> None:
    figure = plot_hypervolume(make(tmp_path / "a"), make(tmp_path / "b"))
    time, compute = figure.axes
    lines = [line for line in time.lines if line.get_drawstyle() == "steps-post"]
    assert [line.get_label() for line in lines] == ["a", "b"]
    np.testing.assert_allclose(lines[0].get_xdata(), [0, *WALL])
    np.testing.assert_allclose(lines[0].get_ydata(), [0, *AREA])
    assert time.get_xlabel() == "wall time (seconds)"
    assert time.get_ylabel() == "hypervolume (% × GFLOPs)"
    assert compute.get_xlabel() == "multiply-accumulates of all trainings (TFLOPs)"
    np.testing.assert_allclose(compute.lines[0].get_xdata(), [0, 1, 1, 2, 3, 4, 5, 5])
    plots.save(figure, tmp_path / "curve.png")
