"""Test the commands that show, stop and reproduce runs, on folders of runs, without Ray."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from driven_sweep import SPACE, Run, epoch, finish, result
from test_cli import st3sweep

from st3sweep.reporting.json_events import JsonEvents
from st3sweep.runs.folder import take_stop_request, write_resolved
from st3sweep.runs.ledger import Ledger
from st3sweep.sweep.state import Outcome, Sweep
from st3sweep.sweep.status import read_status
from st3sweep.util.errors import UserError
from tests.conftest import TINY

Capture = pytest.CaptureFixture[str]
HOLD = """\
import sys, time
from pathlib import Path
from st3sweep.runs.folder import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def a_run(folder: Path, more: str) -> Run:
    run = Run(folder, more)
    (run.folder / "resolved.yaml").write_text(yaml.safe_dump(run.space.document.data))
    return run


@contextmanager
def held(folder: Path) -> Iterator[int]:
    """Hold the run in another process; yield its pid."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process.pid
        finally:
            process.communicate("")


def half_done(folder: Path) -> Run:
    """Make a run in which two trials of five have ended and the third has one epoch."""
    run = a_run(folder, "budget: {trials: 5}")
    sweep = run.program()
    finish(sweep, at_most=2)
    trial = sweep.next_trial()
    assert trial is not None
    sweep.record(2, epoch(trial, 1, val_loss=float("nan")))
    sweep.close()
    return run


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
