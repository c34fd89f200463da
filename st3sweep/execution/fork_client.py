"""Have the fork server start a Ray worker; the raylet runs this file in place of Ray's ``setup_worker.py``.

Only the standard library is imported, so that it takes hundredths of a second. It lives as long as the worker does.
Where the server cannot start the worker, Ray's own script does.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys

SOCKET, SCRIPT = "ST3SWEEP_FORK_SERVER", "ST3SWEEP_SETUP_WORKER"  # of the environment: the server's, Ray's script
REFUSED = b"n"
_CONTEXT = "--serialized-runtime-env-context="


def main(arguments: list[str]) -> None:
    """Start the worker that ``arguments`` describe, and wait for its end."""
    if _is_plain(arguments):
        with contextlib.suppress(KeyError, OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
            server.connect(os.environ[SOCKET])
            _send(server, arguments)
            if server.recv(1) != REFUSED:  # else nothing comes until the worker has ended
                return
    script = os.environ[SCRIPT]
    os.execv(sys.executable, [sys.executable, script, *arguments])


def _is_plain(arguments: list[str]) -> bool:
    """Whether the worker is one of a job, in Python, and its runtime environment consists of variables only."""
    context = next((one.removeprefix(_CONTEXT) for one in arguments if one.startswith(_CONTEXT)), "")
    facts = json.loads(context or "{}")
    program, _ = facts.pop("py_executable", None) or sys.executable, facts.pop("env_vars", None)
    in_python = "--language=PYTHON" in arguments and program == sys.executable
    return in_python and not any(facts.values()) and bool(os.environ.get("RAY_JOB_ID"))


def _send(server: socket.socket, arguments: list[str]) -> None:
    """Send the standard files, and what else a new process would inherit."""
    blocked = [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])]
    facts = {"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd(), "blocked": blocked}
    content = json.dumps(facts).encode()
    socket.send_fds(server, [len(content).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(content)


if __name__ == "__main__":
    main(sys.argv[1:])
