"""Every kind of wrong search space ends the command with one clear line and exit code 2, before Ray starts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from wrong_search import SEARCH
from wrong_specs import ARGUMENTS, DATA, FILES, RIGHT, Wrong
from wrong_sweeps import SWEEP
from wrong_trials import TRIAL

from st3sweep import cli
from st3sweep.commands import resume, run
from st3sweep.space.loading import load_space
from st3sweep.util.errors import SpecError

Main = Callable[..., tuple[int | str | None, str]]


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Main:
    """Return ``main("run", "space.yaml")`` -> exit code and stderr, in an empty folder; a sweep must not start."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ST3SWEEP_NOWHERE", raising=False)
    for module in (run, resume):
        monkeypatch.setattr(module, "run_to_the_end", lambda *_, **__: pytest.fail("the sweep was started"))

    def call(*arguments: str) -> tuple[int | str | None, str]:
        monkeypatch.setattr(sys, "argv", ["st3sweep", *arguments])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        return exit_.value.code, capsys.readouterr().err

    return call


def unmarked(text: str) -> tuple[str, str]:
    """Return ``text`` without its ``^``, and the printed position of that."""
    before, mark, after = text.partition("^")
    assert "^" not in after
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    return before + after, f"space.yaml:{line}:{column}: " if mark else "space.yaml: "


def assert_said(answer: tuple[int | str | None, str], line: str) -> None:
    code, stderr = answer
    assert stderr == f"{line}\n"
    assert code == 2


@pytest.mark.parametrize("wrong", [*TRIAL, *SWEEP, *SEARCH, *DATA], ids=lambda wrong: wrong.kind)
def test_wrong_space(wrong: Wrong, main: Main, tmp_path: Path):
    text, place = unmarked(wrong.text())
    Path("space.yaml").write_text(text)
    Path("empty").mkdir()
    assert_said(main("run", "space.yaml"), place + wrong.said.replace("{folder}", str(tmp_path)))
    assert not Path("runs").exists()


@pytest.mark.parametrize("wrong", ARGUMENTS, ids=lambda wrong: wrong.kind)
def test_wrong_argument(wrong: Wrong, main: Main):
    Path("space.yaml").write_text(wrong.text())
    assert_said(main("run", "space.yaml", *wrong.arguments), wrong.said)
    assert not list(Path("runs").glob("*"))


@pytest.mark.parametrize("kind", FILES)
def test_wrong_file(kind: str, main: Main):
    marked, said = FILES[kind]
    text, place = unmarked(marked)
    Path("space.yaml").write_text(text)
    assert_said(main("run", "space.yaml"), place + said)


def test_missing_file(main: Main):
    Path("space.yaml").touch()
    assert_said(main("run", "spaces.yaml"), "spaces.yaml: no such file; did you mean space.yaml?")


def test_folder_in_place_of_a_file(main: Main):
    Path("spaces").mkdir()
    assert_said(main("validate", "spaces"), "spaces: is a folder; expected a YAML file")


def test_file_that_is_not_text(main: Main):
    Path("space.yaml").write_bytes(b"name: \xff\n")
    assert_said(main("run", "space.yaml"), "space.yaml: not YAML: byte 6 is not UTF-8 text")


def test_resume_of_a_folder_that_is_no_run(main: Main, tmp_path: Path):
    assert_said(main("resume", "."), "st3sweep: .: not the folder of a run (it has no resolved.yaml)")


def test_name_of_an_existing_run(main: Main, tmp_path: Path):
    Path("space.yaml").write_text(RIGHT)
    Path("runs/taken").mkdir(parents=True)
    said = f"st3sweep: {tmp_path}/runs/taken: exists; resume it with `st3sweep resume`, or choose another name"
    assert_said(main("run", "space.yaml", "--name", "taken"), said)


def test_wrong_trial_file(main: Main):
    """``train`` reads one trial with the same checks."""
    Path("space.yaml").write_text(RIGHT)
    said = "space.yaml:12:1: this is a search space, not a single trial; run it with: st3sweep run"
    assert_said(main("train", "space.yaml"), said)
    Path("trial.yaml").write_text("model: {arch: cifar_resnet}\ndata: {dataset: digits}\nsparsity: {method: st3}\n")
    assert_said(
        main("train", "trial.yaml"),
        "trial.yaml:3:1: sparsity.target: is missing (or gflops.target in its place)",
    )
    said = "--set train.epoch=3: train.epoch: unknown field; did you mean train.epochs?"
    assert_said(main("train", "trial.yaml", "--set", "train.epoch=3"), said)


def test_two_mistakes_are_two_lines(main: Main):
    Path("space.yaml").write_text(RIGHT.replace("epochs: 20", "epochs: many").replace("depth: 8", "depth: 9"))
    code, stderr = main("run", "space.yaml")
    assert code == 2
    assert stderr.splitlines() == [
        "space.yaml:5:31: model.depth: must be 6n+2: 8 or 14 (got 9)",
        "space.yaml:8:5: train.epochs: must be a whole number (got 'many')",
    ]


def nodes(tree: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """List the paths of all nodes below ``tree``."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else []
    for key in keys:
        yield (*above, key)
        yield from nodes(tree[key], (*above, key))


@pytest.mark.long
@pytest.mark.parametrize("junk", [None, "te{x}t", {"a": 1}], ids=str)
def test_junk_anywhere_is_reported_there(junk: Any, tmp_path: Path):
    """Never a crash, and every line names the wrong part of the file."""
    for path in nodes(yaml.safe_load(RIGHT)):
        space = yaml.safe_load(RIGHT)
        node = space
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = junk
        (tmp_path / "space.yaml").write_text(yaml.safe_dump(space, sort_keys=False))
        with pytest.raises(SpecError) as error:
            load_space(tmp_path / "space.yaml")
        assert all(problem.line for problem in error.value.problems), (path, error.value)
        assert "\n" not in str(error.value.problems[0]), (path, error.value)


def test_the_right_space_is_right(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Otherwise the wrong ones might be rejected for another reason than the intended one."""
    (tmp_path / "space.yaml").write_text(RIGHT)
    monkeypatch.setattr(sys, "argv", ["st3sweep", "validate", str(tmp_path / "space.yaml")])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"{tmp_path / 'space.yaml'}: valid\n"


PROGRAMS = {
    "unknown field": (
        ("batch_size", "batchsize"),
        "9:5: train.batchsize: unknown field; did you mean train.batch_size?",
    ),
    "workers": (
        ("{workers: 1", "{workers: 5"),
        "9:5: train.batch_size: 64 is not a multiple of 5 workers (resources.workers)",
    ),
}


# Runs the command on each file in turn, as ``python -m st3sweep`` does; says how it ended and what is imported then.
PROGRAM = """
import runpy, sys
for file in sys.argv[1:]:
    sys.argv = ["st3sweep", "run", file]
    try:
        runpy.run_module("st3sweep", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        heavy = {"ray", "optuna", "sklearn", "matplotlib"} & set(sys.modules)
        print(end.code, *heavy, "st3sweep.space.loading" in sys.modules, file=sys.stderr)
"""


@pytest.mark.long
def test_as_a_program(tmp_path: Path):
    """The command itself: exit code, one line, nothing on stdout, and neither Ray nor Optuna imported on the way."""
    expected = []
    for number, (edit, said) in enumerate(PROGRAMS.values()):
        (tmp_path / f"{number}.yaml").write_text(RIGHT.replace(*edit))
        expected += [f"{number}.yaml:{said}", "2 True"]
    command = [sys.executable, "-c", PROGRAM, *(f"{number}.yaml" for number in range(len(PROGRAMS)))]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.stderr.splitlines(), done.stdout) == (expected, "")
