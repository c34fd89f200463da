"""Test that the paths of Ray's sockets fit, whatever the folder for temporary files."""

from __future__ import annotations

import pytest

from st3sweep.util.errors import UserError
from st3sweep.util.sockets import ray_folder


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({}, "/tmp/ray"),
        ({"TMPDIR": "/scratch/job-1"}, "/scratch/job-1/ray"),
        ({"TMPDIR": "/scratch/" + "long/" * 12}, "/tmp/ray"),
        ({"RAY_TMPDIR": "/r", "TMPDIR": "/scratch/" + "long/" * 12}, "/r/ray"),
    ],
)
def test_the_paths_of_sockets_fit(variables: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TMPDIR", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    said: list[str] = []
    assert str(ray_folder(said.append)) == folder
    moved = folder == "/tmp/ray" and "TMPDIR" in variables
    assert said == ["Ray's temporary files are in /tmp/ray: TMPDIR is too long for the paths of its sockets"] * moved
    socket_path = f"{folder}/session_2026-11-26_15-54-04_599467_1234567/sockets/plasma_store"
    assert len(socket_path) <= 107
    monkeypatch.setenv("RAY_TMPDIR", "/scratch/" + "long/" * 12)
    with pytest.raises(UserError, match=r"^the environment variable RAY_TMPDIR: .* is too long .* at most 39 char"):
        ray_folder()
