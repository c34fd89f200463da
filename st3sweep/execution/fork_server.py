"""Start Ray's worker processes as forks of one process that has imported what they need.

A slot is an actor of Tune, a mailbox and its Train workers. Each of these processes would import Ray, pandas and torch
anew, one after the other, for 8 s each on a slow core. Forks share one import, and its memory. The raylet runs
``fork_client.py`` for each worker; that passes arguments, environment and standard files to the server, which forks,
and the fork runs Ray's worker script.

Only workers on this machine start so, those on other machines of a cluster in Ray's way. Which script the raylet runs
is internal to Ray (2.60): where it cannot be set, all workers start in Ray's way.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from st3sweep.execution.fork_client import REFUSED, SCRIPT, SOCKET

WITHOUT_RAY = ("st3sweep.training.loop", "st3sweep.data.formats", "st3sweep.networks", "st3sweep.sparse.methods")
WITH_RAY = ("st3sweep.execution.slot", "st3sweep.execution.trainer", "st3sweep.execution.worker")
# Read when a library is loaded, which in a fork was before.
READ_ON_LOADING = ("LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHASHSEED")
OF_THE_JOB = ("RAY_JOB_ID", "RAY_RAYLET_PID")  # read once, when Ray is loaded
_BACKLOG = 1024


@contextmanager
def fork_server() -> Iterator[None]:
    """Run a fork server for the workers of the Ray cluster that is started within the block on this machine."""
    try:
        from ray._private import ray_constants

        script = ray_constants.SETUP_WORKER_FILENAME
        own = Path(importlib.import_module("ray").__file__ or "").parent / "_private" / "workers" / script
    except (ImportError, AttributeError):  # another version of Ray
        yield
        return
    folder = tempfile.mkdtemp(prefix="st3-", dir="/tmp")  # the path of a socket must be short
    path = os.path.join(folder, "fork")
    command = [sys.executable, "-c", f"from {__name__} import serve; serve()", path]
    single = {name: os.environ.get(name, "1") for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    # In a session of its own: an interrupt at the terminal is for the program alone.
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=os.environ | single, start_new_session=True) as server:
        ray_constants.SETUP_WORKER_FILENAME = str(Path(__file__).with_name("fork_client.py"))
        os.environ |= {SOCKET: path, SCRIPT: str(own)}
        try:
            yield
        finally:
            ray_constants.SETUP_WORKER_FILENAME = script
            del os.environ[SOCKET], os.environ[SCRIPT]
            server.kill()
            shutil.rmtree(folder, ignore_errors=True)


def serve() -> None:
    """Run the server until it is killed, or its standard input ends with the program; in a fork, run the worker.

    The path of its socket is the first argument; in the second case its folder is removed.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(sys.argv[1])
        listening.listen(_BACKLOG)
        for module in WITHOUT_RAY:
            importlib.import_module(module)
        request = _fork_for_each(listening)
    if request is None:
        shutil.rmtree(Path(sys.argv[1]).parent, ignore_errors=True)
    else:
        _run_worker(request)


def _fork_for_each(listening: socket.socket) -> dict[str, Any] | None:
    """Fork for each request. Returns None when the standard input ends, and in a fork its request."""
    before = {name: os.environ.get(name) for name in READ_ON_LOADING}
    job: dict[str, str | None] = {}
    usable = True
    while True:
        ready, _, _ = select.select([listening, sys.stdin], [], [])
        if sys.stdin in ready:
            return None
        connection, _ = listening.accept()
        with connection, contextlib.suppress(OSError, ValueError):
            request, files = _received(connection)
            environment = request["environment"]
            if not job:
                job = {name: environment.get(name) for name in OF_THE_JOB}
                _import_ray(environment)
                usable = _forks_draw_own_ids()
            if not usable or any(environment.get(name) != value for name, value in (before | job).items()):
                connection.sendall(REFUSED)
            elif os.fork() == 0:
                for target, file in enumerate(files):
                    os.dup2(file, target)
                os.dup(connection.fileno())  # open as long as the worker lives, which the client waits for
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _close(files)
                return request
            _close(files)


def _import_ray(environment: dict[str, str]) -> None:
    """Load Ray with the ``environment`` of a worker: it reads the job and the raylet from there when it is loaded.

    Ray draws ids of objects and tasks from a generator that is seeded by the first draw of a process. Forks of one that
    has drawn would draw the same ids, and read each other's objects. Modules draw when they declare an actor: that id
    is made here instead (``_forks_draw_own_ids`` checks the result).
    """
    os.environ.clear()
    os.environ.update(environment)
    actor: Any = importlib.import_module("ray.actor")
    original, actor.ActorClassID = actor.ActorClassID, _ActorClassID
    try:
        for module in WITH_RAY:
            importlib.import_module(module)
    finally:
        actor.ActorClassID = original
    gc.freeze()  # never collected: so the forks' pages of it stay shared
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system removes ended forks


class _ActorClassID:
    """Makes ids of actors' classes without Ray's generator."""

    @staticmethod
    def from_random() -> Any:
        made: Any = importlib.import_module("ray").ActorClassID
        return made(os.urandom(made.size()))


def _forks_draw_own_ids() -> bool:
    """Return whether two forks draw different ids. Another version of Ray may have drawn while it was loaded."""
    drawn = []
    for _ in range(2):
        reading, writing = os.pipe()
        if os.fork() == 0:
            thread = threading.Thread(target=lambda end=writing: os.write(end, _drawn()))  # type: ignore[misc]
            thread.start()
            thread.join()
            os._exit(0)
        os.close(writing)
        with open(reading, "rb") as file:
            drawn.append(file.read())
    return drawn[0] != drawn[1]


def _drawn() -> bytes:
    drawn: bytes = importlib.import_module("ray").ObjectRef.from_random().binary()
    return drawn


def _received(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    length, files, _, _ = socket.recv_fds(connection, 8, 3)
    content, size = bytearray(), int.from_bytes(length, "big")
    while len(content) < size:
        part = connection.recv(size - len(content))
        if not part:
            _close(files)
            raise OSError("the client has ended")
        content += part
    return json.loads(content), files


def _close(files: list[int]) -> None:
    for file in files:
        os.close(file)


def _run_worker(request: dict[str, Any]) -> None:
    """Run Ray's worker script as Ray's ``setup_worker.py`` does, with what the raylet passed to the client."""
    from ray._private.runtime_env.context import update_envs
    from ray._private.workers import setup_worker

    os.setpgrp()  # the raylet ends what a worker has started by its process group
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])
    known, sys.argv = setup_worker.parser.parse_known_args(request["arguments"])
    update_envs(json.loads(known.serialized_runtime_env_context or "{}").get("env_vars") or {})
    sys.path[0] = os.path.dirname(sys.argv[0])  # as for a program that is started from there
    runpy.run_path(sys.argv[0], run_name="__main__")
