"""Test that ``st3sweep doctor`` finds what is wrong with a machine."""

from __future__ import annotations

import json
import os
import socket
from importlib import metadata
from pathlib import Path

import pytest
from driven_sweep import SPACE
from test_cli import st3sweep

from st3sweep.commands.doctor import DASHBOARD_PORT

Capture = pytest.CaptureFixture[str]


def found(capsys: Capture, *words: object) -> tuple[int, dict[str, tuple[str, str]]]:
    """Run the command; return its exit code, and the state and finding of every check."""
    code, said, _ = st3sweep(capsys, "doctor", "--json", *words)
    return code, {check["name"]: (check["state"], check["found"]) for check in json.loads(said)}


def test_a_machine_that_is_ready(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "space.yaml").write_text(SPACE + "budget: {trials: 2}")
    code, checks = found(capsys, tmp_path / "space.yaml", "--storage", tmp_path / "not" / "yet")
    assert code == 0
    assert {state for state, _ in checks.values()} <= {"ok", "warn"}
    assert checks["torch"] == ("ok", f"{metadata.version('torch')} (2.11 or newer)")
    assert checks["storage"][1].startswith(f"{tmp_path}: ")
    assert checks["data"] == ("ok", f"{tmp_path / 'space.yaml'}: 1,200 training images")
    assert not (tmp_path / "not").exists(), "nothing is made"
    lines = st3sweep(capsys, "doctor", "--storage", tmp_path)[1].splitlines()
    assert len(lines) == len(checks) - 1
    assert len({line.index(name) for line, name in zip(lines, checks, strict=False)}) == 1, "aligned"


@pytest.mark.parametrize(
    ("asked", "there", "state", "said"),
    [
        ("torch>=2.11", "2.9.1+cu128", "fail", "2.9.1+cu128 (2.11 or newer)"),
        ("torch>=2.11", "2.11.0", "ok", "2.11.0 (2.11 or newer)"),
        ("ray[default,tune]>=2.60", "3.0", "ok", "3.0 (2.60 or newer)"),
        ("ray[default,tune]>=2.60", None, "fail", "not installed (2.60 or newer)"),
    ],
)
def test_packages(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, there: str | None, state: str,
    said: str,
) -> None:  # fmt: skip
    def version(name: str) -> str:
        if there is None:
            raise metadata.PackageNotFoundError(name)
        return there

    monkeypatch.setattr(metadata, "requires", lambda _: [asked, 'mlflow>=2; extra == "mlflow"'])
    monkeypatch.setattr(metadata, "version", version)
    code, checks = found(capsys, "--storage", tmp_path)
    assert checks[asked[: asked.index(">")].partition("[")[0]] == (state, said)
    assert "mlflow" not in checks
    assert code == (2 if state == "fail" else 0)


def test_a_package_that_was_never_installed(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    code, checks = found(capsys, "--storage", tmp_path)
    assert (code, checks["st3sweep"][0]) == (0, "warn")


def test_storage_that_cannot_be_written(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").touch()
    code, checks = found(capsys, "--storage", tmp_path / "file")
    assert (code, checks["storage"]) == (2, ("fail", f"{tmp_path / 'file'}: cannot be written (Not a directory)"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_storage_without_the_right_to_write(tmp_path: Path, capsys: Capture) -> None:
    tmp_path.chmod(0o500)
    code, checks = found(capsys, "--storage", tmp_path / "runs")
    assert (code, checks["storage"]) == (2, ("fail", f"{tmp_path}: cannot be written (Permission denied)"))


def test_a_port_that_is_taken(tmp_path: Path, capsys: Capture) -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("127.0.0.1", DASHBOARD_PORT))
        except OSError:
            pytest.skip("another program uses the port")
        server.listen()
        code, checks = found(capsys, "--storage", tmp_path)
        assert (code, checks["dashboard"][0]) == (0, "warn")
        assert f"port {DASHBOARD_PORT} is in use" in checks["dashboard"][1]
    assert found(capsys, "--storage", tmp_path)[1]["dashboard"][0] == "ok"


def test_data_that_is_not_there(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "space.yaml").write_text(
        SPACE.replace("dataset: digits, image_size: 8", "dataset: cifar10, root: absent") + "budget: {trials: 2}"
    )
    code, checks = found(capsys, tmp_path / "space.yaml", "--storage", tmp_path)
    assert (code, checks["data"][0]) == (2, "fail")
    assert "space.yaml:5:" in checks["data"][1]
    assert "data.root: no such folder" in checks["data"][1]
    assert "no such file" in found(capsys, tmp_path / "none.yaml")[1]["data"][1]
