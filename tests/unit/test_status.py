"""Test the command that shows how a run stands, on folders of runs, without Ray."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from driven_sweep import SPACE, Run, finish, result
from held_runs import a_run, half_done, held
from test_cli import st3sweep

from st3sweep.sweep.state import Outcome
from st3sweep.sweep.status import read_status

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def status(capsys: Capture, folder: Path) -> dict[str, Any]:
    code, said, _ = st3sweep(capsys, "status", folder, "--json")
    assert code == 0
    assert said.count("\n") == 1
    assert "NaN" not in said
    return dict(json.loads(said))


def test_status_of_a_running_run(tmp_path: Path, capsys: Capture) -> None:
    run = half_done(tmp_path)
    with held(run.folder) as pid:
        code, said, _ = st3sweep(capsys, "status", run.folder)
        seen = status(capsys, run.folder)
    assert code == 0
    first, head, columns, *rows = said.splitlines()
    assert first == f"run: run by process {pid} on {os.uname().nodename}"
    assert head == "2 of 5 trials done"
    assert columns.split() == [
        "trial",
        "method",
        "sparsity",
        "trained",
        "val",
        "top-1",
        "cost",
        "rung",
        "s/epoch",
        "left",
    ]
    assert rows[2].split()[:2] == ["2", "ST-3"]
    assert "1/4" in rows[2]
    assert all(line == line.rstrip() for line in said.splitlines())
    assert (seen["state"], seen["held_by"]["pid"], seen["trials"]) == ("running", pid, 5)
    assert seen["counts"] == {"finished": 2, "stopped": 0, "failed": 0}
    assert [(one["trial"], one["epochs"], one["last"]["epoch"]) for one in seen["open"]] == [(2, 1, 1)]


def test_status_of_an_interrupted_and_of_a_complete_run(tmp_path: Path, capsys: Capture) -> None:
    run = half_done(tmp_path)
    assert st3sweep(capsys, "status", run.folder)[1].splitlines()[:2] == [
        "run: not running", "continue with: st3sweep resume run",
    ]  # fmt: skip
    seen = status(capsys, run.folder)
    assert (seen["state"], seen["held_by"]) == ("interrupted", None)
    sweep = run.program()
    finish(sweep)
    sweep.close()
    said = st3sweep(capsys, "status", run.folder)[1].splitlines()
    assert said[:2] == ["run: complete", "5 of 5 trials done"]
    assert "rung" not in said[2]
    front = [line.split()[0] for line in said[said.index("front") + 1 :]]
    seen = status(capsys, run.folder)
    assert (seen["state"], seen["open"]) == ("complete", [])
    assert [str(one["trial"]) for one in seen["front"]] == front
    costs = [one["gflops"] for one in seen["front"]]
    assert costs == sorted(costs)


@pytest.mark.long
@pytest.mark.parametrize("budget", ["{trials: 50}", "{wall: 9h}"])
def test_a_run_is_complete_when_its_space_has_no_other_point(
    budget: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = "search:\n  sparsity.target: {choice: [0.5, 0.6, 0.7]}\nsearcher: {sampler: random}\n"
    monkeypatch.setattr("driven_sweep.SPACE", SPACE.partition("search:")[0] + three)
    run = a_run(tmp_path, f"budget: {budget}")
    sweep = run.program()
    assert len(finish(sweep)) == 3
    assert sweep.outcome() == Outcome("complete")
    sweep.close()
    assert status(capsys, run.folder)["state"] == "complete"
    assert run.program().is_complete(), "resuming starts no further search"


def test_status_needs_no_earlier_run(tmp_path: Path, capsys: Capture) -> None:
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    first = Run(earlier, "budget: {trials: 1}").program()
    finish(first)
    first.close()
    run = a_run(tmp_path, f"budget: {{trials: 2}}\nwarm_start: {{from: [{first.folder}]}}")
    sweep = run.program()
    finish(sweep)
    sweep.close()
    shutil.rmtree(earlier)
    assert status(capsys, run.folder)["state"] == "complete"


def test_a_search_that_has_spent_its_share_ends_with_the_budget(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    run = a_run(tmp_path, "budget: {trials: 50, wall: 100s}\nreplicates: {seeds: 2, share: 0.4}")
    sweep = run.program()
    trial = sweep.next_trial()
    assert trial is not None
    now[0] += 60.0
    sweep.record(trial.number, result(trial))
    assert sweep.outcome().end == "interrupted", "its replicate has 40 seconds"
    assert finish(sweep) == [1]
    assert sweep.outcome() == Outcome("budget", "the budget's wall is spent", "wall")
    sweep.close()
    assert status(capsys, run.folder)["state"] == "budget"
    said = st3sweep(capsys, "status", run.folder)[1].splitlines()
    assert said[1] == "continue with: st3sweep resume run --set budget.wall=... --extend"
    assert run.program().blocking_limit() == "wall", "resume starts nothing that the budget does not allow"


def test_a_run_is_not_complete_before_its_replicates_are(tmp_path: Path, capsys: Capture) -> None:
    run = a_run(tmp_path, "budget: {trials: 3}\nreplicates: {seeds: 2}")
    sweep = run.program()
    finish(sweep, at_most=4)
    sweep.close()
    said = st3sweep(capsys, "status", run.folder)[1]
    assert "3 of 3 trials done · 1 replicate done\n" in said
    repeated = sweep.ledger.trials[3].replicate_of
    assert f"\n3 as {repeated} ST-3" in said
    assert status(capsys, run.folder)["state"] == "interrupted"
    sweep = run.program()
    finish(sweep)
    sweep.close()
    seen = status(capsys, run.folder)
    assert (seen["state"], seen["counts"]["finished"], seen["replicates"]) == ("complete", 3, 3)
    assert {one["trial"] for one in seen["front"]} == {0, 1, 2}


def test_status_follows_the_budget(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    run = a_run(tmp_path, "budget: {trials: 9, wall: 1h}")
    sweep = run.program()
    trial = sweep.next_trial()
    assert trial is not None
    now[0] = 3600.0
    sweep.record(0, result(trial))
    sweep.close()
    said = st3sweep(capsys, "status", run.folder)[1].splitlines()
    assert said[:2] == [
        "run: the budget's wall is spent", "continue with: st3sweep resume run --set budget.wall=... --extend",
    ]  # fmt: skip
    assert "1:00:00 of 1:00:00 wall time" in said[2]
    seen = status(capsys, run.folder)
    assert (seen["state"], seen["spent"]["wall"]) == ("budget", {"spent": 3600.0, "limit": 3600.0})
    # A search without a number of trials ends with its budget.
    (run.folder / "resolved.yaml").write_text(yaml.safe_dump({**run.space.document.data, "budget": {"wall": "1h"}}))
    assert status(capsys, run.folder)["state"] == "complete"


def test_status_shows_errors_whole_and_no_empty_table(tmp_path: Path, capsys: Capture) -> None:
    run = a_run(tmp_path, "budget: {trials: 2}")
    sweep = run.program()
    error = f"Diverged: {'a long reason, ' * 20}in short"
    while trial := sweep.next_trial():
        sweep.record(trial.number, {"status": "failed", "error": error})
    sweep.close()
    _, head, *rows = st3sweep(capsys, "status", run.folder)[1].splitlines()
    assert head == "2 of 2 trials done, 2 failed"
    assert rows == [f"trial {number:>3}  failed: {error}" for number in (0, 1)]


def test_status_fits_a_terminal_of_80_columns(tmp_path: Path) -> None:
    run = half_done(tmp_path)
    command = f"stty cols 80; {sys.executable} -m st3sweep status {run.folder.name}"
    said = subprocess.run(["script", "-qc", command, "/dev/null"], capture_output=True, text=True, check=True).stdout
    assert "1/4" in said
    assert "…" not in said


def test_watching_ends_with_the_run(tmp_path: Path, capsys: Capture) -> None:
    run = half_done(tmp_path)
    looks = [read_status(run.folder)]
    with held(run.folder):
        looks.insert(0, read_status(run.folder))
        looks.insert(0, read_status(run.folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.sleep", lambda _: None)
        patch.setattr("st3sweep.commands.status.read_status", lambda _: looks.pop(0))
        code, said, _ = st3sweep(capsys, "status", run.folder, "--watch", "--json")
    assert (code, looks) == (0, [])
    assert [json.loads(line)["state"] for line in said.splitlines()] == ["running", "interrupted"]


def test_readers_leave_an_unfinished_line(tmp_path: Path, capsys: Capture) -> None:
    """Half a line at the end of the ledger is still being written: a reader leaves it."""
    run = half_done(tmp_path)
    with open(run.folder / "ledger.jsonl", "ab") as file:
        file.write(b'{"event": "ep')
    before = (run.folder / "ledger.jsonl").read_bytes()
    assert status(capsys, run.folder)["counts"]["finished"] == 2
    assert (run.folder / "ledger.jsonl").read_bytes() == before
    code, _, error = st3sweep(capsys, "status", tmp_path)
    assert (code, error) == (2, f"st3sweep: {tmp_path}: not the folder of a run (it has no resolved.yaml)\n")
