"""Which workers the fork server may start: Python programs of a job, like the server but for variables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from st3sweep.execution import fork_client


@pytest.mark.parametrize(
    ("context", "language", "job", "plain"),
    [
        ({}, "PYTHON", "01", True),
        ({"env_vars": {"A": "1"}, "py_executable": sys.executable, "java_jars": []}, "PYTHON", "01", True),
        ({"py_executable": "podman run python"}, "PYTHON", "01", False),
        ({"command_prefix": ["cd", "/"]}, "PYTHON", "01", False),
        ({}, "JAVA", "01", False),
        ({}, "PYTHON", "", False),
    ],
)
def test_plain_workers(context: dict[str, Any], language: str, job: str, plain: bool, monkeypatch: Any) -> None:
    monkeypatch.setenv("RAY_JOB_ID", job)
    arguments = ["default_worker.py", f"--serialized-runtime-env-context={json.dumps(context)}"]
    assert fork_client._is_plain([*arguments, f"--language={language}"]) is plain


def test_without_a_server_the_worker_starts_as_ray_starts_it(tmp_path: Path) -> None:
    """The client imports nothing of the package, and replaces itself by Ray's script."""
    script = tmp_path / "setup.py"
    script.write_text("import os, sys; print(os.getpid(), sys.argv[1:], 'st3sweep' in sys.modules)")
    places = {fork_client.SCRIPT: str(script), fork_client.SOCKET: str(tmp_path / "none"), "RAY_JOB_ID": "01"}
    command = [sys.executable, fork_client.__file__, "--language=PYTHON", "x"]
    with subprocess.Popen(command, env=os.environ | places, stdout=subprocess.PIPE, text=True) as running:
        printed = running.communicate(timeout=60)[0]
    assert printed == f"{running.pid} ['--language=PYTHON', 'x'] False\n"
