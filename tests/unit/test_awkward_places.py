"""Test output that cannot be written or encoded, names in other encodings, folders that are gone or have spaces."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from driven_sweep import Run, finish
from PIL import Image
from test_cli import st3sweep

from st3sweep.commands.run import print_front
from st3sweep.runs import provenance
from st3sweep.runs.folder import new_run
from st3sweep.runs.tables import read_table

Capture = pytest.CaptureFixture[str]
PROJECT = Path(__file__).parents[2]
RUN = PROJECT / "tests" / "data" / "run_0_1"
TRIAL = """\
model: {arch: cifar_resnet, depth: 8, width: 4}
data: {dataset: image_folder, root: images, image_size: 32, validation: 2}
train: {epochs: 1, batch_size: 2}
optim: {weight_decay: {kind: constant, value: 1.0e-4}}
sparsity: {method: st3, target: 0.5}
"""


def program(*words: str, cwd: Path, stdout: object = subprocess.PIPE, **environment: str) -> tuple[int, bytes, str]:
    command = [sys.executable, "-m", "st3sweep", *words]
    surroundings = {**os.environ, "PYTHONPATH": str(PROJECT), **environment}
    done = subprocess.run(command, cwd=cwd, stdout=stdout, stderr=subprocess.PIPE, env=surroundings)  # type: ignore[call-overload]
    return done.returncode, done.stdout, done.stderr.decode()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Make a folder of images, one of whose names is Latin-1."""
    for part in ("train", "val"):
        for label in ("a", "b"):
            place = tmp_path / "images" / part / label
            place.mkdir(parents=True)
            for number in range(4):
                Image.new("L", (32, 32), 60 * number).save(place / f"{number}.png")
    place = tmp_path / "images" / "train" / "a"
    os.rename(place / "0.png", os.fsencode(place) + b"/caf\xe9.png")
    (tmp_path / "trial.yaml").write_text(TRIAL)
    return tmp_path


def test_a_full_output_is_an_error_of_one_line(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with open("/dev/full", "wb") as full:
        code, _, error = program("pareto", str(RUN), cwd=tmp_path, stdout=full)
    assert (code, error) == (2, "st3sweep: No space left on device: the output\n")


def test_an_output_of_ascii_only(tmp_path: Path) -> None:
    run = Run(tmp_path, "budget: {trials: 1}")
    sweep = run.program()
    finish(sweep)
    sweep.close()
    code, said, error = program("pareto", str(run.folder), cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert (code, error) == (0, "")
    assert b"\\xd7" in said, "× of the column fewer than dense"


def test_a_working_directory_that_is_gone(tmp_path: Path) -> None:
    script = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
    command = ["sh", "-c", script, "sh", sys.executable, "-m", "st3sweep", "status", str(RUN)]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(PROJECT)}
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == "st3sweep: the working directory no longer exists; change to another one"


def test_names_in_another_encoding(images: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(images)
    code, said, error = st3sweep(capsys, "data", "pack", "trial.yaml", "--out", "pack")
    assert code == 0, error
    assert "pack: 16 images" in said
    code, _, error = st3sweep(capsys, "train", "trial.yaml", "--set", "data.pack=pack", "--out", "run")
    assert code == 0, error
    bad = os.fsencode(images / "images" / "train" / "a") + b"/caf\xe9.png"
    with open(bad, "wb") as file:
        file.write(b"no image")
    code, _, error = program("train", "trial.yaml", "--out", "other", cwd=images)  # the name goes to a real output
    assert (code, error.count("\n")) == (2, 1)
    assert r"caf\udce9.png as an image" in error


def test_provenance_of_names_in_another_encoding(images: Path) -> None:
    os.rename(images / "images" / "val", os.fsencode(images / "images") + b"/val-\xe9")
    (images / "images" / "x").mkdir()
    with open(os.fsencode(images / "images") + b"/x/\xe9.txt", "w"):
        pass
    document = {"name": "study", "trial": {"data": {"root": str(images / "images")}}}
    folder = new_run("study", document, "name: study\n", images / "runs", None)
    facts = yaml.safe_load((folder / "provenance.json").read_text())
    assert any(".txt" in name for name in facts["data"]["files"])
    assert (folder / "space.yaml").read_text() == "name: study\n"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a checkout of another project, in which the package is a file that is not part of it yet."""
    place = tmp_path / "project"
    (place / "package").mkdir(parents=True)
    shutil.copy(provenance.__file__, place / "package" / "provenance.py")
    (place / "notes.txt").write_text("none\n")
    git(place, "init", "--quiet")
    git(place, "add", "notes.txt")
    git(place, "commit", "--quiet", "--message", "Start")
    monkeypatch.setattr(provenance, "__file__", str(place / "package" / "provenance.py"))
    return place


def git(place: Path, *words: str) -> None:
    named = ["-c", "user.name=Name", "-c", "user.email=name@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *named, *words], cwd=place, check=True)


def test_provenance_has_nothing_of_a_checkout_of_which_the_package_is_no_part(checkout: Path) -> None:
    (checkout / "notes.txt").write_text("of the other project\n")
    assert provenance.provenance(None)["git"] is None


def test_provenance_of_a_change_in_another_encoding(checkout: Path) -> None:
    git(checkout, "add", "package")
    git(checkout, "commit", "--quiet", "--message", "Add the package")
    (checkout / "notes.txt").write_bytes(b"caf\xe9\n")
    found = provenance.provenance(None)["git"]
    assert len(found["commit"]) == 40
    assert "+caf\ufffd" in found["diff"]


def test_the_next_commands_can_be_pasted(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "my runs"
    place.mkdir()
    run = Run(place, "budget: {trials: 1}")
    sweep = run.program()
    finish(sweep)
    sweep.close()
    print_front(run.folder, read_table(run.folder, "trials"))
    said = capsys.readouterr().out
    assert "next    st3sweep results 'my runs/run'\n" in said
    assert "search_spaces" not in said, "is not there"
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "cifar10_resnet20.yaml").write_text("")
    print_front(run.folder, read_table(run.folder, "trials"))
    assert "st3sweep run search_spaces/cifar10_resnet20.yaml --dry-run" in capsys.readouterr().out


def test_status_says_why_a_run_ended_early(tmp_path: Path, capsys: Capture) -> None:
    run = Run(tmp_path, "budget: {trials: 3}")
    (run.folder / "resolved.yaml").write_text(yaml.safe_dump(run.space.document.data))
    sweep = run.program()
    finish(sweep, at_most=1)
    sweep.pause("every slot was lost, 6 times each: MemoryError")
    sweep.close()
    said = st3sweep(capsys, "status", run.folder)[1].splitlines()
    assert said[0].endswith("not running (every slot was lost, 6 times each: MemoryError)")
    again = run.program()
    finish(again)
    again.close()
    assert "MemoryError" not in st3sweep(capsys, "status", run.folder)[1]
