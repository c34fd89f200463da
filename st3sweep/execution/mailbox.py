"""Exchange jobs and reports between a slot's Tune actor and its workers. Imports neither torch nor Ray."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from typing import Any, NamedTuple

Job = dict[str, Any]  # trial, spec, folder, store: the run's address, or None where all machines share the folder
Log = tuple[str, str]  # host, and the path there of a worker's output


class Delivery(NamedTuple):
    """What a slot learns from its mailbox in one call: reports, and of its workers where and how they are."""

    messages: list[dict[str, Any]]
    group: str | None  # placement group of the workers
    log: Log | None  # where the output of rank 0 is
    nodes: set[str]  # machines of the workers
    silent: list[bytes]  # the workers, if they have not reported within the limit
    entered: bool  # whether the slot has had workers


class Mailbox:
    """The open job of a slot and its reports, as a Ray actor of which many threads wait.

    It outlives the workers: a rebuilt group gets the open job again. ``max_attempts`` bounds how often one job may kill
    its workers before it counts as failed. ``lasting`` is how many jobs a worker process may take, 0 for any number.
    Threads, since a call of an async actor costs twice the processor time. Each rank's ``take`` holds one.
    """

    def __init__(self, max_attempts: int = 3, lasting: int = 0):
        self._max_attempts, self._lasting = max_attempts, lasting
        self._job: Job | None = None
        self._number = 0  # of the job, from 1
        self._open = False
        self._closed = False
        self._attempts = 0
        self._stop = False
        self._messages: deque[dict[str, Any]] = deque()
        self._workers: dict[int, bytes] = {}  # by rank: pickled handles, with which the slot can kill them
        self._taken: dict[int, int] = {}  # by rank: jobs that the worker has taken
        self._group: str | None = None
        self._log: Log | None = None  # of rank 0
        self._earlier_log: Log | None = None  # of the worker before it
        self._heard: float | None = None  # time of the open job's last report; None until it is taken
        self._nodes: dict[int, str] = {}  # by rank: the machine of the worker, as Ray names it
        self._leaving = False
        self._entered: dict[int, int] = {}  # by rank: workers so far
        self._moved = False  # whether rank 0 has entered since the last delivery
        self._changed = threading.Condition()

    def put(self, job: Job) -> None:
        """Open the next job; the previous one has ended."""
        with self._changed:
            self._job, self._open = job, True
            self._number += 1
            self._attempts, self._stop = 0, False
            self._messages.clear()
            self._heard = None
            self._changed.notify_all()

    def close(self) -> None:
        """Accept no more jobs: every ``take`` returns None from now on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def is_closed(self) -> bool:
        return self._closed

    def enter(
        self, rank: int, worker: bytes, group: str | None = None, log: Log | None = None, node: str | None = None
    ) -> None:
        """Register a new worker, in placement group ``group``. Its start-up does not count as the job's silence."""
        with self._changed:
            self._workers[rank], self._taken[rank] = worker, 0
            self._group, self._leaving = group, False
            if node is not None:
                self._nodes[rank] = node
            if rank == 0:
                self._earlier_log, self._log, self._moved = self._log, log, True
                self._heard = None  # another rank may enter after rank 0 has taken the job
            self._entered[rank] = self._entered.get(rank, 0) + 1
            self._changed.notify_all()

    def take(self, rank: int, finished: int) -> tuple[int, Job] | None:
        """Wait for the open job; return its number and the job. ``finished`` is the last number that this worker ended.

        A new worker has ended none, so it gets the job that its predecessor left open. Returns None when the slot
        closes, when the worker has had as many jobs as it may, and when another one has entered in its place.
        """
        with self._changed:
            entered = self._entered.get(rank)

            def ends() -> bool:
                return self._closed or self._entered.get(rank) != entered

            while True:
                self._changed.wait_for(lambda: ends() or (self._open and self._number > finished))
                if ends():
                    return None
                if self._lasting and self._taken.get(rank, 0) >= self._lasting:
                    return None
                if rank == 0:
                    self._heard = time.monotonic()
                    self._attempts += 1
                    if self._attempts > self._max_attempts:
                        died = f"its workers died {self._max_attempts} times{see(self._earlier_log)}"
                        self._end({"status": "failed", "error": died})
                        continue
                self._taken[rank] = self._taken.get(rank, 0) + 1
                assert self._job is not None
                return self._number, self._job

    def attempts(self) -> int:
        """Return how often the open job was taken: above 0 it took workers down, 0 where no job is open."""
        with self._changed:
            return self._attempts if self._open else 0

    def report(self, number: int, messages: list[dict[str, Any]]) -> bool:
        """Store records of job ``number`` from rank 0; a ``status`` ends the job. True asks it to stop."""
        with self._changed:
            self._heard = time.monotonic()
            for message in messages:
                if number == self._number and self._open:
                    self._open = "status" not in message
                    self._messages.append(message)
            self._changed.notify_all()
            return self._stop

    def stop(self, trial: int) -> None:
        """Ask the open job to stop after its current epoch, if it is still that of ``trial``."""
        with self._changed:
            self._stop = self._stop or (self._job is not None and self._job["trial"] == trial)

    def leave(self) -> None:
        """Ask the workers to save and to leave their machines, of which one is about to be taken away."""
        self._leaving = True

    def is_leaving(self) -> bool:
        return self._leaving

    def left(self) -> None:
        """Note that the workers have saved and end now: this does not count as a death of theirs."""
        with self._changed:
            self._attempts, self._heard = max(0, self._attempts - 1), None
            self._nodes.clear()  # a worker of the next group must not be taken for one on the old machines

    def silent(self, limit_seconds: float) -> list[bytes]:
        """Return the workers if the open job was taken and has not reported for that long; otherwise an empty list."""
        late = self._open and self._heard is not None and time.monotonic() - self._heard > limit_seconds
        return list(self._workers.values()) if late else []

    def give_up(self, limit_seconds: float) -> bool:
        """Fail the open job if it is still ``silent``; return whether it was."""
        with self._changed:
            if not self.silent(limit_seconds):
                return False
            self._end({"status": "failed", "error": f"hangs: nothing was reported for {limit_seconds:g} seconds"})
            return True

    def deliver(self, timeout_seconds: float, silence_seconds: float | None = None) -> Delivery:
        """Return the next messages and how the workers are; without a limit none is silent.

        Waits as ``next_messages`` does, but no longer than until workers enter: the slot may then get its first job.
        """
        with self._changed:
            self._changed.wait_for(lambda: bool(self._messages) or self._moved, timeout_seconds)
            self._moved = False
            messages = self.next_messages(0.0)
            silent = [] if silence_seconds is None else self.silent(silence_seconds)
            return Delivery(messages, self._group, self._log, set(self._nodes.values()), silent, 0 in self._entered)

    def next_messages(self, timeout_seconds: float) -> list[dict[str, Any]]:
        """Wait up to ``timeout_seconds`` for messages; return those since the last call, possibly none."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._messages), timeout_seconds)
            messages = list(self._messages)
            self._messages.clear()
            return messages

    def _end(self, message: dict[str, Any]) -> None:
        self._open = False
        self._messages.append(message)
        self._changed.notify_all()


def see(log: Log | None) -> str:
    """Return ``; see FILE``, with the host if that is another one; empty where no file is known."""
    if log is None:
        return ""
    host, path = log
    return f"; see {path}" + ("" if host == socket.gethostname() else f" on {host}")
