"""Send a trial's records from its worker to the slot's mailbox. Imports neither torch nor Ray."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

GATHER_SECONDS = 0.2


class Reporter:
    """Sends the records of one job after another; those less than ``GATHER_SECONDS`` apart travel together.

    One call costs as much for one epoch as for twenty: of Ray, of the slot and of the driver. A longer epoch is sent at
    once, and so is the end of a job. What is lost with a killed worker is reported again from the checkpoint.

    ``send`` takes a job's number and records, and returns whether the job is to stop.
    """

    def __init__(self, send: Callable[[int, list[dict[str, Any]]], bool]):
        self._send = send
        self._number, self._stop = 0, False
        self._held: list[dict[str, Any]] = []
        self._sent = float("-inf")
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()

    def start(self, number: int) -> None:
        """Report for job ``number`` from now on."""
        with self._lock:
            self._number, self._stop, self._held = number, False, []

    def report(self, message: dict[str, Any]) -> bool:
        """Send a record within ``GATHER_SECONDS``; a ``status`` ends the job. True asks it to stop."""
        with self._lock:
            self._held.append(message)
            wait = self._sent + GATHER_SECONDS - time.monotonic()
            if wait <= 0 or "status" in message:
                self._send_held()
            elif self._timer is None:
                self._timer = threading.Timer(wait, self._send_late)
                self._timer.daemon = True
                self._timer.start()
            return self._stop

    def _send_late(self) -> None:
        with self._lock, contextlib.suppress(Exception):  # what is still held is sent with the next, which may raise
            self._send_held()

    def _send_held(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._held:
            self._stop = self._send(self._number, self._held)
            self._held, self._sent = [], time.monotonic()
