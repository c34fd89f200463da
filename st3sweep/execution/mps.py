"""NVIDIA's Multi-Process Service (MPS): processes that share a GPU compute at the same time, not in turns.

Its clients are one context to the GPU: a fault of one, like an access outside its memory, ends all that are there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

CONTROL = "nvidia-cuda-mps-control"
PIPES, LOGS = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"  # of the environment, read by CUDA and the daemon
NOWHERE = "/dev/null/none"  # pipes of no daemon
_SECONDS = 30.0


@contextmanager
def multi_process_service(say: Callable[[str], None]) -> Iterator[bool]:
    """Run an MPS daemon for this program's processes until the block ends; yield whether they will use it.

    One that runs already is used and left running. Where none can be started, ``say`` is told why, and processes on
    one GPU take turns.
    """
    program, turns = shutil.which(CONTROL), "trials on one GPU take turns"
    if program is None:
        say(f"{turns}: {CONTROL} is not installed")
        yield False
        return
    if not _asked(program, "get_server_list"):
        yield True
        return
    folder = tempfile.mkdtemp(prefix="st3sweep-mps-", dir="/tmp")  # TMPDIR may be too long for a socket
    before = {name: os.environ.get(name) for name in (PIPES, LOGS)}
    os.environ.update(dict.fromkeys(before, folder))
    failure = ""  # also after Ctrl-C while the daemon starts: it is asked to end, in case it is there
    try:
        failure = _asked(program, None)
        if failure:
            say(f"{turns}: {CONTROL} -d: {failure}")
            _restore(before)
        yield not failure
    finally:
        if not failure:
            _asked(program, "quit")
        _restore(before)
        shutil.rmtree(folder, ignore_errors=True)


def _restore(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _asked(program: str, command: str | None) -> str:
    """Start the daemon, or give it a ``command``; return what went wrong, empty where nothing did."""
    arguments = {"input": f"{command}\n"} if command else {"stdin": subprocess.DEVNULL}
    try:
        done = subprocess.run(  # type: ignore[call-overload]
            [program] if command else [program, "-d"],
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
            **arguments,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return " ".join(str(error).split())[:200]
    said = " ".join((done.stderr + done.stdout).split())[:200]
    return (said or f"exit code {done.returncode}") if done.returncode else ""


def leave() -> None:
    """Keep this process out of MPS; call it before the process first uses CUDA."""
    os.environ[PIPES] = NOWHERE


def has_left() -> bool:
    return os.environ.get(PIPES) == NOWHERE
