"""A slot's exchange: the Tune actor puts jobs in, the workers take them and report back. Knows no torch, no Ray."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

Job = dict[str, Any]  # trial, spec, folder


class Mailbox:
    """Runs as an async Ray actor. Outlives the workers: a group that was rebuilt is given the open job again.

    ``max_attempts`` bounds how often one job may take its workers down before it counts as failed.
    """

    def __init__(self, max_attempts: int = 3):
        self._max_attempts = max_attempts
        self._job: Job | None = None
        self._number = 0  # of the job, from 1
        self._open = False
        self._closed = False
        self._attempts = 0
        self._stop = False
        self._messages: deque[dict[str, Any]] = deque()
        self._changed = asyncio.Condition()

    async def put(self, job: Job) -> None:
        """The next job. The one before it is over."""
        async with self._changed:
            self._job, self._open = job, True
            self._number += 1
            self._attempts, self._stop = 0, False
            self._messages.clear()
            self._changed.notify_all()

    async def close(self) -> None:
        """No more jobs: every ``take`` returns None from now on."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    async def take(self, rank: int, finished: int) -> tuple[int, Job] | None:
        """The open job and its number, waited for; ``finished`` is the number of the last one that this worker ended.

        A new worker has ended none, so it gets the job that its predecessor left open. None when the slot closes.
        """
        async with self._changed:
            while True:
                await self._changed.wait_for(lambda: self._closed or (self._open and self._number > finished))
                if self._closed:
                    return None
                if rank == 0:
                    self._attempts += 1
                    if self._attempts > self._max_attempts:
                        died = f"its workers died {self._max_attempts} times"
                        self._end({"status": "failed", "error": died})
                        continue
                assert self._job is not None
                return self._number, self._job

    async def report(self, number: int, message: dict[str, Any]) -> bool:
        """A record of job ``number``, from rank 0; one with a ``status`` ends the job. True asks the job to stop."""
        async with self._changed:
            if number == self._number and self._open:
                if "status" in message:
                    self._end(message)
                else:
                    self._messages.append(message)
                    self._changed.notify_all()
            return self._stop

    async def stop(self) -> None:
        """Ask the open job to end after its epoch."""
        self._stop = True

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
