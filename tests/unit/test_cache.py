"""Test where what can be made again is kept: decoded datasets, runs of an object store, compiled engines."""

from __future__ import annotations

import pwd
from pathlib import Path
from typing import Any

import pytest

from st3sweep.export.calibration import RUNTIME
from st3sweep.runs.store import local_folder
from st3sweep.sparse_runtime import compiled
from st3sweep.util.cache import cache_folder
from st3sweep.util.errors import UserError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("ST3SWEEP_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


def test_the_environment_sets_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value, wanted in (
        ("ST3SWEEP_CACHE", "", tmp_path / ".cache" / "st3sweep"),
        ("XDG_CACHE_HOME", "relative", tmp_path / ".cache" / "st3sweep"),
        ("XDG_CACHE_HOME", "/var/xdg", Path("/var/xdg/st3sweep")),
        ("ST3SWEEP_CACHE", "~/mine", tmp_path / "mine"),
        ("ST3SWEEP_CACHE", "/scratch", Path("/scratch")),
    ):
        monkeypatch.setenv(variable, value)
        assert cache_folder() == wanted
        assert local_folder("s3://bucket/runs/one") == wanted / "runs" / "s3" / "bucket" / "runs" / "one"


def test_a_relative_cache_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each worker runs in its own folder, and would look for the run there."""
    monkeypatch.setenv("ST3SWEEP_CACHE", "here")
    with pytest.raises(UserError, match=r"^the environment variable ST3SWEEP_CACHE must be an absolute path \(got '"):
        local_folder("s3://bucket/runs/one")


def test_a_user_without_a_home_folder_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> Any:
        raise KeyError("uid not found")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(UserError, match=r"^s3://bucket/one: the user has no home folder; set .* ST3SWEEP_CACHE to"):
        local_folder("s3://bucket/one")
    with pytest.raises(compiled.CompilerError, match=r"^the user has no home folder; set .* XDG_CACHE_HOME to"):
        compiled.cache_folder()


def test_a_cache_folder_that_cannot_be_made_is_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("ST3SWEEP_SPARSE_ENGINE", "")
    with pytest.raises(compiled.CompilerError, match=r"^the engine cannot be compiled \(.*Not a directory: .*file"):
        compiled.engine(RUNTIME)


@pytest.mark.parametrize("users", [None, "", "relative", "/var/xdg"])
def test_compiled_engines_are_in_the_same_folder(users: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exported folders cannot import ``st3sweep.util``: the rule stands twice."""
    if users is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", users)
    assert compiled.cache_folder() == cache_folder() / "sparse_runtime"
