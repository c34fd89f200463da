"""Have points proposed by a Gaussian process ahead of time, while the driver does other work."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from st3sweep.search.gp_process import Request
from st3sweep.search.samplers import seed_of

_TRIES = 20  # unacceptable points for one request, after which the next is waited for
_STARTS = 3  # of the process, which may be killed
_PROGRAM = "import sys; sys.path[:] = {}; from st3sweep.search.gp_process import serve; serve()"


class ProposalsAhead:
    """Points proposed for the latest ``want``, by a process that a thread waits for; ``take`` never waits."""

    def __init__(self, acceptable: Callable[[dict[str, Any]], bool]):
        """``acceptable`` says of a point's parameters whether it may be run. It is called from a thread."""
        self._acceptable = acceptable
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self._changed = threading.Condition()  # guards all that follows
        self._wanted: tuple[Request, int] | None = None  # what the thread has yet to begin
        self._ready: list[dict[str, Any]] = []
        self._working = self._closed = False
        self.failure = ""  # the latest

    def want(self, request: Request, points: int) -> None:
        """Propose ``points`` points for ``request``, which takes the place of any before it."""
        with self._changed:
            if self._closed:
                return
            self._wanted = (request, points)
            if not self._working:
                self._working = True
                threading.Thread(target=self._work, daemon=True).start()

    def take(self) -> dict[str, Any] | None:
        """Return the parameters of a point, made for the latest request that has one; None if there is none yet."""
        with self._changed:
            return self._ready.pop(0) if self._ready else None

    def wait(self) -> None:
        """Wait until all points of the latest request are there."""
        with self._changed:
            self._changed.wait_for(lambda: not self._working)

    def close(self) -> None:
        """End the process."""
        with self._changed:
            self._closed = True
            self._wanted = None
        if self._process is not None:
            self._process.kill()

    def _work(self) -> None:
        """Serve the latest request, and then the latest again, until none is left."""
        while True:
            with self._changed:
                if self._wanted is None:
                    self._working = False
                    self._changed.notify_all()
                    return
                (request, points), self._wanted = self._wanted, None
            self._serve(request, points)

    def _serve(self, request: Request, points: int) -> None:
        first = True
        for attempt in range(points + _TRIES):
            try:
                params = self._exchange(request)
                acceptable = self._acceptable(params)
            except Exception as error:  # whatever it is: the sweep continues, and says it
                with self._changed:
                    self.failure = str(error) or "its process ended"
                return
            with self._changed:
                if acceptable:
                    self._ready = [params] if first else [*self._ready, params]
                    first, points = False, points - 1
                if not points or self._wanted is not None:
                    return
            request = request.beside(params, seed_of(request.seed, attempt))

    def _exchange(self, request: Request) -> dict[str, Any]:
        """Have one point proposed. Raises RuntimeError with the process's error, and OSError or EOFError if it ends."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump(request, self._process.stdin)
        self._process.stdin.flush()
        reply = pickle.load(self._process.stdout)
        if isinstance(reply, str):
            raise RuntimeError(reply)
        params: dict[str, Any] = reply
        return params

    def _start(self) -> None:
        with self._changed:
            if self._closed:
                raise EOFError
            if self._starts == _STARTS:
                raise RuntimeError(f"its process ended {_STARTS} times")
            self._starts += 1
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM.format(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},  # the cores are the trainings'
            start_new_session=True,  # an interrupt from the terminal is for the driver alone
        )
