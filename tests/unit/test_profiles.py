"""Test layer profiles, training curves and the timeline of early stopping, by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from st3sweep.analysis.layer_profiles import below_front, layer_profiles
from st3sweep.analysis.timeline import stops_by_rung, timeline
from st3sweep.analysis.training_curves import training_curves
from st3sweep.early_stopping.replay import replay_timeline
from st3sweep.runs.tables import table_path, write_table
from st3sweep.space.early_stopping import EarlyStoppingConfig


def trials_of(val: list[float], gflops: list[float], **columns: Any) -> pd.DataFrame:
    common = {"status": "finished", "model": "net", "dataset": "digits", "method": "ST-3"}
    return (
        pd.DataFrame({"trial": range(len(val)), "val_top1": val, "gflops": gflops}).assign(**common).assign(**columns)
    )


def test_below_the_front_by_hand() -> None:
    trials = trials_of([90.0, 92.0, 91.5, 89.0, 95.0], [1.0, 2.0, 3.0, 1.0, np.nan])
    found = below_front(trials).set_index("trial")["below_front"]
    assert found.tolist()[:4] == [0, 0, 0.5, 1.0]
    assert np.isnan(found[4])
    # Where less is better, at equal or lower cost: 0.2 at most at cost 1.
    error = trials_of([0, 0, 0], [1.0, 1.0, 2.0], val_error=[0.3, 0.2, 0.25])
    objectives = (("val_error", "min"), ("gflops", "min"))
    assert below_front(error, objectives)["below_front"].tolist() == pytest.approx([0.1, 0, 0.05])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="two objectives are needed, but got 1"):
        below_front(trials, (("val_top1", "max"),))


def test_layer_profiles_by_hand() -> None:
    """Two layers of 100 and 300 weights; the front keeps 40 and 60 of them, its neighbour 50 and 50."""
    trials = trials_of([90.0, 89.5, 80.0, 70.0], [1.0, 1.0, 1.0, 1.0])
    kept = [(0.4, 0.2), (0.5, 1 / 6), (0.1, 0.3), (1.0, 1.0)]
    layers = pd.DataFrame([
        {"trial": trial, "layer": name, "position": place, "numel": numel, "density": own[place],
         "macs": 10 * own[place], "threshold": 0.1 * trial, "dead_channels": trial}
        for trial, own in enumerate(kept) for place, (name, numel) in enumerate([("stem", 100), ("head", 300)])
    ])  # fmt: skip
    table = layer_profiles(layers.iloc[::-1], trials).set_index(["group", "layer"])
    assert table.index.tolist() == [
        (group, layer) for group in ("front", "neighbours", "others") for layer in ("stem", "head")
    ]
    assert table["trials"].tolist() == [1] * 6, "the dense model has no profile"
    assert table.loc[("front", "stem"), ["density", "relative", "weights_share"]].tolist() == pytest.approx(
        [0.4, 1.6, 0.4]
    )
    assert table.loc[("front", "head"), ["relative", "macs_share"]].tolist() == pytest.approx([0.8, 1 / 3])
    assert table.loc[("neighbours", "stem"), "relative"] == pytest.approx(2.0)
    assert table.loc[("others", "head"), ["threshold", "dead_channels"]].tolist() == pytest.approx([0.2, 2])
    near = layer_profiles(layers, trials, within=20.0).set_index(["group", "layer"])
    assert near.loc[("neighbours", "stem"), ["trials", "density", "density_low"]].tolist() == pytest.approx(
        [2, 0.3, 0.2]
    )
    with pytest.raises(ValueError, match="one model compare, but got a, b"):
        layer_profiles(layers, trials.assign(model=["a", "b", "a", "b"]))


def test_training_curves_by_hand() -> None:
    trials = trials_of([1.0, 1.0, 1.0, 1.0], [1.0] * 4, method=["a", "a", "a", None])
    rows = [(0, 1, 0.1), (1, 1, 0.2), (2, 1, 0.6), (0, 2, 0.5), (1, 2, 0.7), (3, 1, 0.9)]
    epochs = pd.DataFrame(rows, columns=["trial", "epoch", "ratio"]).assign(val_top1=None)
    table = training_curves(epochs, trials)
    assert table.values.tolist() == [
        ["a", "ratio", 1, 3, pytest.approx(0.2), pytest.approx(0.15), pytest.approx(0.4)],
        ["a", "ratio", 2, 2, pytest.approx(0.6), pytest.approx(0.55), pytest.approx(0.65)],
        ["unknown", "ratio", 1, 1, 0.9, 0.9, 0.9],
    ]
    with pytest.raises(ValueError, match="by='colour': no such column; the table has trial, val_top1"):
        training_curves(epochs, trials, by="colour")


@pytest.fixture
def stopped_run(tmp_path: Path) -> Path:
    """Write a run of four trials of ten epochs: two finished, two stopped at rungs 0 and 1."""
    run = tmp_path / "sweep"
    run.mkdir()
    ends = [("finished", 10, 2), ("stopped", 3, 0), ("stopped", 6, 1), ("finished", 10, 2)]
    trials, epochs = [], []
    for trial, (status, last, rung) in enumerate(ends):
        result = {"val_top1": 90.0 + trial, "gflops": 0.1 + trial} if status == "finished" else {}
        trials.append({"trial": trial, "status": status, "rung": rung, **result})
        epochs += [
            {"trial": trial, "epoch": n, "progress": n / 10, "ramp_progress": min(1, n / 5), "val_top1": 50.0 + n,
             "gflops": 1.0, "gflops_final": 0.5, "seconds": 2.0}
            for n in range(1, last + 1)
        ]  # fmt: skip
    write_table(table_path(run, "trials"), "trials", trials)
    write_table(table_path(run, "epochs"), "epochs", epochs)
    return run


def test_timeline_without_a_ledger(stopped_run: Path) -> None:
    table = timeline(stopped_run)
    assert table["trained"].tolist() == pytest.approx([1, 0.3, 0.6, 1])
    assert table["epochs_full"].tolist() == [10] * 4
    assert table["val_top1"].tolist() == [90, 53, 56, 93], "a finished trial has the value of its best epoch"
    assert table["gflops"].tolist() == [0.1, 0.5, 0.5, 3.1], "a stopped one its projected cost"
    assert table["ramp_progress"].tolist() == pytest.approx([1, 0.6, 1, 1])
    assert table["on_front"].tolist() == [True, False, False, True]
    assert table["end_seconds"].isna().all()
    assert stops_by_rung(table).values.tolist() == [
        [0, 4, 1, 0.25, pytest.approx(0.3)],
        [1, 3, 1, pytest.approx(1 / 3), pytest.approx(0.6)],
        [2, 2, 0, 0, pytest.approx(np.nan, nan_ok=True)],
    ]
    assert stops_by_rung(table.assign(rung=np.nan)).empty


def test_timeline_takes_its_times_from_the_ledger(stopped_run: Path) -> None:
    lines: list[dict[str, Any]] = [{"event": "session", "time": 100.0, "space": {}}]
    for trial in range(2):
        facts = {"params": {}, "spec": {}, "digest": "", "workers": 1}
        lines.append({"event": "trial", "time": 101.0, "trial": trial, **facts})
    ends = [(0, 125.0, "finished"), (1, 130.0, "stopped")]
    for trial, when, status in ends:
        lines.append({"event": "done", "time": when, "trial": trial, "status": status, "result": {}, "error": None})
    (stopped_run / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    table = timeline(stopped_run)
    # The clock starts with the session; trial 0 has trained 10 epochs of 2 s, trial 1 three.
    assert table["end_seconds"].tolist()[:2] == [25, 30]
    assert table["begin_seconds"].tolist()[:2] == [5, 24]
    assert table["end_seconds"].isna().tolist() == [False, False, True, True]


def test_a_replayed_timeline_stops_what_the_rule_stops() -> None:
    """Trials one at a time, in a random order; asha at half of the training keeps the better half."""
    trials = trials_of([90.0, 60.0, 80.0, 70.0], [1.0] * 4)
    epochs = pd.DataFrame([
        {"trial": trial, "epoch": n, "progress": n / 4, "val_top1": float(trials["val_top1"][trial]), "gflops": 1.0,
         "seconds": 10.0}
        for trial in range(4) for n in range(1, 5)
    ])  # fmt: skip
    rule = EarlyStoppingConfig(name="asha", rungs=(0.5,), min_trials=2)
    table = replay_timeline(trials, epochs, rule, slots=1, overshoot=0)
    best: list[float] = []
    for row in table.itertuples():
        value = {0: 90, 1: 60, 2: 80, 3: 70}[row.trial]
        best.append(value)
        place = sorted(best, reverse=True).index(value) + 1
        stops = len(best) >= 2 and place > len(best) / 2
        assert (row.status, row.epochs) == (("stopped", 2) if stops else ("finished", 4))
    assert table["trained"].tolist() == (table["epochs"] / 4).tolist()
    assert table["begin_seconds"].tolist()[1:] == table["end_seconds"].tolist()[:-1], "one slot is never idle"
    assert table["end_seconds"].iloc[-1] == 10 * table["epochs"].sum()
    assert table.set_index("trial")["on_front"].to_dict() == {0: True, 1: False, 2: False, 3: False}
