"""Run the program in forks of one process that has imported torch and the rest, all but Ray.

Each is a process of its own that runs ``st3sweep``, or a script, from its first line, in its own environment; only the
imports, which take most of a short program's time, are made once. The process they come from imports no plugin, and a
fork that ends or is killed leaves no trace in it.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[2]
SERVE = """\
import gc, json, os, runpy, select, sys
import matplotlib.pyplot, pandas, pyarrow.parquet, seaborn
import st3sweep.cli, st3sweep.commands.run, st3sweep.commands.plan, st3sweep.analysis.report.data
import st3sweep.training.loop, st3sweep.data.formats, st3sweep.networks, st3sweep.sparse.methods
import st3sweep.sweep.state

def run(asked):
    for target, name in enumerate(asked["files"], start=1):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND), target)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    sys.path[:1] = [asked["folder"], *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = asked["words"]
    if asked["words"][0] == "st3sweep":
        runpy.run_module("st3sweep", run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = os.path.dirname(asked["words"][0])
        runpy.run_path(asked["words"][0], run_name="__main__")

assert "ray" not in sys.modules, "it reads its environment when it is imported"
gc.freeze()
running = {}
while True:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            break
        ended = running.pop(pid)
        with open(ended + ".new", "w") as file:
            file.write(str(os.waitstatus_to_exitcode(status)))
        os.rename(ended + ".new", ended)
    if not select.select([0], [], [], 0.05)[0]:
        continue
    line = b""
    while not line.endswith(b"\\n"):
        read = os.read(0, 1 << 16)
        if not read:
            sys.exit()
        line += read
    asked = json.loads(line)
    if (child := os.fork()) == 0:
        break
    running[child] = asked["status"]
    print(child, flush=True)
run(asked)
"""


class Forked:
    """A program, used as a ``subprocess.Popen`` whose output is text; ``errors`` is apart from ``output`` if asked.

    The first word is ``st3sweep`` or the path of a script.
    """

    def __init__(self, words: tuple[str, ...], environment: dict[str, str], folder: Path, *, apart: bool = False):
        server, place = _server()
        name = tempfile.mkdtemp(dir=place)
        self.output, self.errors = Path(name, "out"), Path(name, "errors" if apart else "out")
        self._status = Path(name, "status")
        asked = {
            "words": words, "environment": environment, "folder": str(folder),
            "files": [str(self.output), str(self.errors)], "status": str(self._status),
        }  # fmt: skip
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(asked) + "\n")
        server.stdin.flush()
        self.pid = int(server.stdout.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None and self._status.exists():
            self.returncode = int(self._status.read_text())
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = time.monotonic() + timeout if timeout is not None else float("inf")
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("st3sweep", timeout or 0.0, self.output.read_bytes())
            time.sleep(0.01)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        return self.output.read_text(), self.errors.read_text()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:  # else its number may be that of another process
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def command(*words: str, path: str = "") -> tuple[int, str, str]:
    """Exit code, output and errors of a command that needs no Ray, with the folders ``path`` on Python's path."""
    done = Forked(("st3sweep", *words), {**os.environ, "PYTHONPATH": path}, PROJECT, apart=True)
    output, errors = done.communicate(timeout=400)
    return done.wait(), output, errors


@cache
def _server() -> tuple[Any, str]:
    """Start the process; it ends with this one. Return it and a folder for the programs' files."""
    folder = tempfile.TemporaryDirectory()
    start = [sys.executable, "-c", SERVE]
    server = subprocess.Popen(start, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(folder.cleanup)
    return server, folder.name
