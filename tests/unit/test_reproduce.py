"""Test the command that trains a trial again and compares the numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_cli import st3sweep

from st3sweep.runs.ledger import Ledger
from tests.conftest import TINY

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from st3sweep.commands.train import train_one
    from st3sweep.trial.recipes import resolve

    folder = tmp_path_factory.mktemp("trained") / "run"
    assert train_one(resolve(TINY), folder, "cpu", lambda _: None) == "finished"
    return folder


def copied(run: Path, to: Path, *, change: Any = None) -> Path:
    """Copy the run with ``change`` applied to every event of its ledger."""
    (to / "copy").mkdir()
    events = [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]
    for event in events:
        change(event)
    (to / "copy" / "ledger.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in events))
    return to / "copy"


def test_a_trial_is_reproduced_to_the_last_digit(trained: Path, capsys: Capture) -> None:
    code, said, _ = st3sweep(capsys, "reproduce", trained, 0, "--device", "cpu")
    assert code == 0
    assert said.endswith("\nidentical to the last digit\n")
    rows = dict(line.split()[::2][:2] for line in said.splitlines() if line.startswith(("val_top1", "gflops ")))
    recorded = Ledger(trained, read_only=True).trials[0]
    assert rows == {name: repr(recorded.result[name]) for name in ("val_top1", "gflops")}
    assert f"train_loss, epoch 3  {recorded.epochs[3]['train_loss']!r}" in said
    again = trained / "trials" / "0000" / "reproduced"
    assert Ledger(again, read_only=True).trials[0].result["val_top1"] == recorded.result["val_top1"]
    code, _, error = st3sweep(capsys, "reproduce", trained, 0, "--out", again)
    assert (code, error) == (2, f"st3sweep: {again}: holds a result already; choose another folder with --out\n")


def test_reproduce_shows_differences(trained: Path, tmp_path: Path, capsys: Capture) -> None:
    def change(event: dict[str, Any]) -> None:
        if event["event"] == "epoch" and event["record"]["epoch"] == 2:
            event["record"]["train_loss"] += 1e-9

    run = copied(trained, tmp_path, change=change)
    code, said, _ = st3sweep(capsys, "reproduce", run, 0, "--device", "cpu")
    assert code == 4
    assert said.endswith("\nnot identical\n")
    assert [line.split()[:3] for line in said.splitlines() if line.endswith("differs")] == [
        ["train_loss,", "epoch", "2"]
    ]


@pytest.mark.parametrize(
    ("event", "field", "value", "why"),
    [
        ("done", "status", "stopped", "trial 0 is stopped; this needs a finished one"),
        ("trial", "workers", 2, "trial 0 was trained by 2 workers; reproduce trains it with one"),
        ("trial", "spec", {"model": {"arch": "none"}}, "trial 0 has the arch none; name its plugin with --plugin"),
    ],
)
def test_reproduce_refuses_unsuitable_trials(
    trained: Path, tmp_path: Path, capsys: Capture, event: str, field: str, value: Any, why: str
) -> None:
    run = copied(trained, tmp_path, change=lambda one: one.update({field: value} if one["event"] == event else {}))
    code, said, error = st3sweep(capsys, "reproduce", run, 0)
    assert (code, said, error.count("\n")) == (2, "", 1)
    assert why in error
    assert not (run / "trials").exists()
    assert "no trial 7; its last is 0" in st3sweep(capsys, "reproduce", run, 7)[2]
    assert "it has no ledger.jsonl" in st3sweep(capsys, "reproduce", tmp_path, 0)[2]
