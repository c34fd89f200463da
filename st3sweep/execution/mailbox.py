"""A slot's exchange: the Tune actor puts jobs in, the workers take them and report back. Knows no torch, no Ray."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any

Job = dict[str, Any]  # trial, spec, folder


class Mailbox:
    """Runs as an async Ray actor. Outlives the workers: a group that was rebuilt is given the open job again.

    ``max_attempts`` bounds how often one job may take its workers down before it counts as failed. ``lasting`` is how
    many jobs a worker process may take, 0 for any number.
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
        self._workers: dict[int, Any] = {}  # by rank: whatever the slot can end them with
        self._taken: dict[int, int] = {}  # jobs of the worker of a rank
        self._group: str | None = None
        self._heard: float | None = None  # when last of the open job; None until it is taken
        self._changed = asyncio.Condition()

    async def put(self, job: Job) -> None:
        """The next job. The one before it is over."""
        async with self._changed:
            self._job, self._open = job, True
            self._number += 1
            self._attempts, self._stop = 0, False
            self._messages.clear()
            self._heard = None
            self._changed.notify_all()

    async def close(self) -> None:
        """No more jobs: every ``take`` returns None from now on."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    async def is_closed(self) -> bool:
        return self._closed

    async def enter(self, rank: int, worker: Any, group: str | None = None) -> None:
        """A new worker is there, in placement group ``group``. What it takes to get one is no part of the job."""
        self._workers[rank], self._taken[rank], self._heard = worker, 0, None
        self._group = group

    async def group(self) -> str | None:
        """The placement group of the workers."""
        return self._group

    async def take(self, rank: int, finished: int) -> tuple[int, Job] | None:
        """The open job and its number, waited for; ``finished`` is the number of the last one that this worker ended.

        A new worker has ended none, so it gets the job that its predecessor left open. None when the slot closes, and
        when the worker has had as many jobs as it may.
        """
        async with self._changed:
            while True:
                await self._changed.wait_for(lambda: self._closed or (self._open and self._number > finished))
                if self._closed or (self._lasting and self._taken.get(rank, 0) >= self._lasting):
                    return None
                if rank == 0:
                    self._heard = time.monotonic()
                    self._attempts += 1
                    if self._attempts > self._max_attempts:
                        died = f"its workers died {self._max_attempts} times"
                        self._end({"status": "failed", "error": died})
                        continue
                self._taken[rank] = self._taken.get(rank, 0) + 1
                assert self._job is not None
                return self._number, self._job

    async def report(self, number: int, message: dict[str, Any]) -> bool:
        """A record of job ``number``, from rank 0; one with a ``status`` ends the job. True asks the job to stop."""
        async with self._changed:
            self._heard = time.monotonic()
            if number == self._number and self._open:
                if "status" in message:
                    self._end(message)
                else:
                    self._messages.append(message)
                    self._changed.notify_all()
            return self._stop

    async def stop(self, trial: int) -> None:
        """Ask the open job to end after its epoch, if it is still that of ``trial``."""
        self._stop = self._stop or (self._job is not None and self._job["trial"] == trial)

    async def silent(self, limit_seconds: float) -> list[Any]:
        """The workers of the open job if it was taken and then not heard of for so long; else nobody."""
        late = self._open and self._heard is not None and time.monotonic() - self._heard > limit_seconds
        return list(self._workers.values()) if late else []

    async def give_up(self, limit_seconds: float) -> None:
        """The open job has failed if it is still ``silent``."""
        async with self._changed:
            if await self.silent(limit_seconds):
                self._end({"status": "failed", "error": f"hangs: nothing was reported for {limit_seconds:g} seconds"})

    async def next_messages(self, timeout_seconds: float) -> list[dict[str, Any]]:
        """What has been reported since the last call, waited for up to ``timeout_seconds``; possibly nothing."""
        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(lambda: bool(self._messages)), timeout_seconds)
            except TimeoutError:
                return []
            messages = list(self._messages)
            self._messages.clear()
            return messages

    def _end(self, message: dict[str, Any]) -> None:
        self._open = False
        self._messages.append(message)
        self._changed.notify_all()
