"""Test the commands that plan, run, stop and resume runs, on folders of runs, without Ray."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from driven_sweep import SPACE, finish, result
from held_runs import a_run, half_done, held
from test_cli import st3sweep

from st3sweep.reporting.json_events import JsonEvents
from st3sweep.runs.folder import take_stop_request, write_resolved
from st3sweep.runs.ledger import Ledger
from st3sweep.sweep.state import Outcome, Sweep
from st3sweep.util.errors import UserError
from tests.conftest import TINY

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("words", "request_"), [([], "now"), (["--drain"], "drain")])
def test_stop_asks_who_runs_it(tmp_path: Path, capsys: Capture, words: list[str], request_: str) -> None:
    run = half_done(tmp_path)
    code, _, error = st3sweep(capsys, "stop", run.folder, *words)
    assert (code, error) == (2, f"st3sweep: {run.folder}: no program is running this sweep\n")
    assert take_stop_request(run.folder) is None
    with held(run.folder) as pid:
        code, said, _ = st3sweep(capsys, "stop", run.folder, *words)
    assert code == 0
    assert f":{pid} to end " in said
    assert take_stop_request(run.folder) == request_
    assert take_stop_request(run.folder) is None, "once"


@pytest.mark.parametrize(
    ("outcome", "fails", "code", "hint"),
    [
        (Outcome("complete"), False, 0, ""),
        (Outcome("complete"), True, 4, ""),
        (Outcome("budget", "the budget's wall is spent", "wall"), False, 3, " --set budget.wall=... --extend"),
        (Outcome("interrupted", "SIGINT"), True, 130, ""),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_how_run_ends(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, outcome: Outcome, fails: bool, code: int,
    hint: str, as_json: bool,
) -> None:  # fmt: skip
    """Check exit code and last words, and that --json prints JSON only; also of a run in which nothing finished."""

    @contextmanager
    def instead(space: Any, folder: Path, address: Any, progress: Any, *_: Any, **__: Any) -> Iterator[Outcome]:
        if as_json:
            print("(pid=7) what a library has to say")
        sweep = Sweep(space, folder, progress)
        while trial := sweep.next_trial():
            sweep.record(trial.number, {"status": "failed", "error": "nan"} if fails else result(trial))
        sweep.close()
        yield outcome

    monkeypatch.setattr("st3sweep.execution.runner.sweep", instead)
    a_run(tmp_path, "budget: {trials: 2}")
    found, said, error = st3sweep(capsys, "run", "space.yaml", *(["--json"] if as_json else []))
    assert found == code
    assert (tmp_path / "runs" / "decisions" / "front.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "runs" / "decisions" / "report.html").read_bytes().startswith(b"<!doctype html>")
    if not as_json:
        assert "report  runs/decisions/report.html\n" in said
    if as_json:
        events = [json.loads(line) for line in said.splitlines()]
        assert [one["event"] for one in events] == ["note", *["started", "done"] * 2, "end"]
        assert (events[-1]["outcome"], events[-1]["exit_code"]) == (outcome.end, code)
        assert error == "(pid=7) what a library has to say\n"
        return
    assert ("no trial finished" in said) == fails
    assert ("2 of 2 trials failed" in said) == fails
    assert ("\nnext    st3sweep results runs/decisions\n" in said) != fails
    last_words = f"{outcome.why}; continue with: st3sweep resume runs/decisions{hint}\n"
    assert error == ("" if outcome.end == "complete" else last_words)


def test_plan_says_what_would_be_done(tmp_path: Path, capsys: Capture) -> None:
    more = "budget: {trials: 9, wall: 72h, money: 100, price_per_device_hour: 2}\nreplicates: {seeds: 3, share: 0.4}\n"
    a_run(tmp_path, more + "resources: {slots: 2, hang_limit: 30m, trials_per_process: 20}")
    code, said, error = st3sweep(capsys, "plan", "space.yaml", "--set", "train.epochs=7")
    facts = {name: fact for name, _, fact in (line.partition("  ") for line in said.splitlines()) if name.strip()}
    assert (code, error) == (0, "")
    assert facts["trials"].strip() == "9; 7 epochs each"
    spend = "at most 72h of wall time, 100 in money at 2 an hour of a CPU"
    assert facts["budget"].strip() == f"{spend}; 40% of it reserved for replicates"
    assert "new processes after 20 trials; fails after 30m without a report; 2 at a time" in " ".join(said.split())
    assert said == st3sweep(capsys, "run", "space.yaml", "--dry-run", "--set", "train.epochs=7")[1]
    code, said, error = st3sweep(capsys, "run", "space.yaml", "--dry-run", "--json")
    assert (code, said, error.count("\n")) == (2, "", 1), "a plan is not JSON"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "space.yaml"], "nothing is made"


def test_plan_without_the_data_says_what_is_missing(tmp_path: Path, capsys: Capture) -> None:
    here = SPACE.replace("dataset: digits, image_size: 8", "dataset: cifar10") + "budget: {trials: 2}"
    (tmp_path / "space.yaml").write_text(here)
    code, said, error = st3sweep(capsys, "plan", "space.yaml", "--set", "data.root=absent")
    assert code == 0
    assert "data        cifar10\n" in said
    assert "not ready to run: --set data.root=absent: data.root: no such folder" in error


def test_a_trial_that_another_program_trains_is_refused(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "trial.yaml").write_text(yaml.safe_dump(TINY))
    folder = tmp_path / "one"
    folder.mkdir()
    with held(folder):
        code, _, error = st3sweep(capsys, "train", "trial.yaml", "--out", "one", "--device", "cpu")
    assert (code, error) == (2, "st3sweep: one: another program is running this sweep\n")
    assert not (folder / "ledger.jsonl").exists()


def test_an_unknown_device_leaves_no_files(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "trial.yaml").write_text(yaml.safe_dump(TINY))
    code, _, error = st3sweep(capsys, "train", "trial.yaml", "--out", "one", "--device", "gpu")
    assert code == 2
    assert error.startswith("st3sweep: --device gpu: ")
    assert not (tmp_path / "one").exists()


@pytest.mark.long
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    """Check what a shell asks for, and the commands that it gets."""

    def asked(**more: str) -> str:
        environment = {**os.environ, **more}
        program = "import sys; from st3sweep.cli import main; sys.argv = ['st3sweep']; main()"
        command = [sys.executable, "-c", program]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout

    assert "_ST3SWEEP_COMPLETE=complete_" in asked(_ST3SWEEP_COMPLETE=f"source_{shell}")
    if shell == "bash":
        words = {"_ST3SWEEP_COMPLETE": "complete_bash", "COMP_WORDS": "st3sweep re", "COMP_CWORD": "1"}
        assert asked(**words).split() == ["resume", "results", "report", "replay", "reproduce"]


@pytest.mark.parametrize(("trials", "more"), [("+2", 2), ("4", 2)])
def test_resume_extends_a_search(
    trials: str, more: int, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A complete run gets more trials; its budget is stored, so that the next sum counts from there."""

    @contextmanager
    def instead(space: Any, folder: Path, address: Any, progress: Any, *_: Any, **__: Any) -> Iterator[Outcome]:
        write_resolved(folder, space.document.data)
        sweep = Sweep(space, folder, progress)
        finish(sweep)
        sweep.close()
        yield Outcome("complete")

    monkeypatch.setattr("st3sweep.execution.runner.sweep", instead)
    run = a_run(tmp_path, "budget: {trials: 2}")
    with instead(run.space, run.folder, None, JsonEvents(2, io.StringIO())):
        pass
    assert len(Ledger(run.folder, read_only=True).trials) == 2
    assert st3sweep(capsys, "resume", "run", "--trials", trials)[0] == 0
    assert len(Ledger(run.folder, read_only=True).trials) == 2 + more
    assert st3sweep(capsys, "resume", "run", "--trials", "+1")[0] == 0
    assert len(Ledger(run.folder, read_only=True).trials) == 2 + more + 1


@pytest.mark.parametrize(
    ("budget", "trials", "message"),
    [
        ("{trials: 2}", "many", "--trials many: must be a number of trials, or +N for N more"),
        ("{trials: 2}", "+0", "--trials +0: must be a number"),
        ("{wall: 1h}", "+5", "--trials +5: the run has no budget.trials to add to; give a number without a sign"),
    ],
)
def test_a_search_that_cannot_be_extended(
    budget: str, trials: str, message: str, tmp_path: Path, capsys: Capture
) -> None:
    a_run(tmp_path, f"budget: {budget}")
    code, _, error = st3sweep(capsys, "resume", "run", "--trials", trials)
    assert code == 2
    assert message in error


@pytest.mark.parametrize("trials", [0, 1])
def test_an_error_before_the_first_trial_leaves_no_folder(
    trials: int, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def instead(space: Any, folder: Path, address: Any, progress: Any, *_: Any, **__: Any) -> Iterator[Outcome]:
        sweep = Sweep(space, folder, progress)
        for _ in range(trials):
            sweep.next_trial()
        sweep.close()
        raise UserError("--address nowhere: no Ray cluster there")
        yield

    monkeypatch.setattr("st3sweep.execution.runner.sweep", instead)
    a_run(tmp_path, "budget: {trials: 2}")
    code, _, error = st3sweep(capsys, "run", "space.yaml")
    assert (code, error) == (2, "st3sweep: --address nowhere: no Ray cluster there\n")
    assert (tmp_path / "runs" / "decisions").exists() is (trials > 0)
