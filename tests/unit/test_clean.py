"""Test the command clean and its twin, on a run with real files, without Ray."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from driven_sweep import Run, result
from held_runs import a_run, held
from test_cli import st3sweep
from test_kept_checkpoints import ALL, five_with_all, left

from st3sweep.commands.opened_run import Run as OpenedRun
from st3sweep.runs.folder import trial_folder
from st3sweep.util.errors import UserError
from st3sweep.util.text import format_bytes

Capture = pytest.CaptureFixture[str]
BYTES = {"last.ckpt": 2000, "last.ckpt.previous": 2000, "best.ckpt": 1000}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a run that kept everything."""
    monkeypatch.chdir(tmp_path)
    made = a_run(tmp_path, "budget: {trials: 9}\nresources: {checkpoints: all}")
    five_with_all(made.program(), BYTES)
    return made


def files(run: Run) -> list[set[str]]:
    return [left(run, number) for number in range(5)]


FINISHED = [{"best.ckpt"}, {"best.ckpt"}, {"last.ckpt", "best.ckpt"}, {"last.ckpt"}, ALL]
FRONT = [set(), {"best.ckpt"}, set(), set(), ALL]


def test_it_says_what_would_go_and_why_and_removes_nothing(run: Run, capsys: Capture) -> None:
    code, said, _ = st3sweep(capsys, "clean", "run", "--keep", "front")
    assert code == 0
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in said.splitlines() if line]
    assert rows == [
        ["why", "trials", "files", "size"],
        ["dominated", "1", "3", "5 kB"],
        ["finished: only the best epoch is read again", "1", "2", "4 kB"],
        ["stopped early", "1", "3", "5 kB"],
        ["failed", "1", "3", "5 kB"],
        ["1 unfinished trial keeps its checkpoints: resume continues from them"],
        ["run: would free 19 kB of 25 kB; to remove: st3sweep clean run --keep front --yes"],
    ]
    assert files(run) == [ALL] * 5


@pytest.mark.parametrize(("keep", "freed", "after"), [("finished", 13, FINISHED), ("front", 19, FRONT)])
def test_yes_removes(keep: str, freed: int, after: list[set[str]], run: Run, capsys: Capture) -> None:
    options = ("clean", "run", "--keep", keep, "--yes")
    assert f"run: freed {freed} kB of 25 kB\n" in st3sweep(capsys, *options)[1]
    assert files(run) == after
    assert f"run: freed 0 B of {25 - freed} kB\n" in st3sweep(capsys, *options)[1]
    assert files(run) == after


def test_json_names_each_file(run: Run, capsys: Capture) -> None:
    code, said, _ = st3sweep(capsys, "clean", "run", "--json")
    assert code == 0
    found: dict[str, Any] = json.loads(said)
    rows = found.pop("files")
    assert found == {
        "folder": str(run.folder), "keep": "finished", "removed": False, "bytes": 25_000, "freed": 13_000,
    }  # fmt: skip
    assert rows[0] == {
        "trial": 0, "file": str(trial_folder(run.folder, 0) / "last.ckpt"), "bytes": 2000,
        "why": "finished: only the best epoch is read again",
    }  # fmt: skip
    assert sum(row["bytes"] for row in rows) == 13_000
    assert {row["trial"] for row in rows} == {0, 1, 2, 3}


def test_a_run_that_a_program_runs_is_refused(run: Run, capsys: Capture) -> None:
    with held(run.folder) as pid:
        for options in ((), ("--yes",)):
            code, said, error = st3sweep(capsys, "clean", "run", *options)
            assert (code, said, error.count("\n")) == (2, "", 1)
            assert f"{run.folder}: " in error
            assert "program is running this sweep" in error
        assert str(pid) in st3sweep(capsys, "clean", "run")[2]
    assert files(run) == [ALL] * 5


def test_it_frees_space_where_nothing_can_be_written(run: Run) -> None:
    """As on a full disk: no file may grow."""
    (run.folder / ".lock").unlink(missing_ok=True)
    program = f"exec {sys.executable} -m st3sweep clean run --yes"
    done = subprocess.run(["bash", "-c", f"ulimit -f 0; {program}"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "run: freed 13 kB of 25 kB\n" in done.stdout
    assert files(run) == FINISHED


def test_the_twin_in_python(run: Run) -> None:
    opened = OpenedRun(run.folder)
    found = opened.clean("front")
    assert list(found.columns) == ["trial", "file", "bytes", "why"]
    assert found.groupby("trial")["bytes"].sum().to_dict() == {0: 5000, 1: 4000, 2: 5000, 3: 5000}
    assert files(run) == [ALL] * 5
    with pytest.raises(UserError, match="--keep all: allowed: front, finished"):
        opened.clean("all")
    opened.clean("front", yes=True)
    assert files(run) == FRONT
    assert opened.clean("front").empty


def test_a_file_that_cannot_be_removed_is_an_error_after_the_others(run: Run, capsys: Capture) -> None:
    last = trial_folder(run.folder, 0) / "last.ckpt"
    last.unlink()
    last.mkdir()
    code, _, error = st3sweep(capsys, "clean", "run", "--yes")
    assert (code, error.count("\n")) == (2, 1)
    assert f"{last}: cannot be removed (" in error
    assert files(run) == [{"last.ckpt", "best.ckpt"}, *FINISHED[1:]]


def test_a_resumed_run_says_why_a_cleaned_trial_is_not_promoted(run: Run, capsys: Capture) -> None:
    st3sweep(capsys, "clean", "run", "--keep", "front", "--yes")
    sweep = run.program()
    with pytest.raises(UserError, match=r"--promote 2: its checkpoint was removed \(.*\); train it anew with: .*0002"):
        sweep.promote([2])
    trial = sweep.next_trial()
    assert trial is not None
    assert trial.number == 4
    sweep.record(4, result(trial))


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (999_600, "1 MB"), (12_345_678, "12.3 MB"), (51.8e12, "51.8 TB")],
)
def test_bytes_have_three_digits(count: float, text: str) -> None:
    assert format_bytes(count) == text
