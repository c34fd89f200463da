"""Lock a run in an object store: the program whose lock has the highest number holds the run.

Locks ``lock/000001.json``, … are created exclusively, so of two programs one gets a number. Its holder writes it again
every ``BEAT_SECONDS``. Another program takes over, by the next number, once it is released or stale, or if its holder
ran on the same machine and has ended. A holder that finds a higher number has lost the run and writes nothing more.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from st3sweep.util.errors import UserError
from st3sweep.util.storage.object_errors import StoreError
from st3sweep.util.storage.objects import Objects

BEAT_SECONDS = 30.0
STALE_SECONDS = 300.0  # without a sign, by both machines' clocks
_PAUSES = (0.2, 1.0)  # seconds before a sign is repeated: the next one follows soon, and the end must not wait long


@dataclass
class _Owner:
    """A program, as a lock names it."""

    host: str
    machine: str  # since it was started, as far as process numbers are unique
    pid: int
    started: float
    token: str
    beat: float
    released: bool = False

    @classmethod
    def this(cls) -> _Owner:
        started = psutil.Process().create_time()
        return cls(socket.gethostname(), _machine(), os.getpid(), started, secrets.token_hex(8), time.time())

    def gone(self) -> bool:
        """Return whether the program has released its lock, or ran on this machine and has ended."""
        if self.released:
            return True
        try:
            return self.machine == _machine() and abs(psutil.Process(self.pid).create_time() - self.started) > 0.1
        except psutil.NoSuchProcess:
            return True
        except psutil.Error:
            return False

    def encoded(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def _machine() -> str:
    parts = []
    for path in ("/proc/sys/kernel/random/boot_id", "/etc/machine-id"):
        try:
            with open(path) as file:
                parts.append(file.read().strip())
        except OSError:
            parts.append("")
    try:
        parts.append(os.readlink("/proc/self/ns/pid"))
    except OSError:
        parts.append("")
    return " ".join([socket.gethostname(), *parts])


class StoreLock:
    """The lock of this program, number ``number``."""

    def __init__(self, store: Objects, number: int, owner: _Owner):
        self.store, self.number, self._owner = store, number, owner
        self._signs = Objects(store.url, _PAUSES)

    @classmethod
    def of_new_run(cls, store: Objects) -> StoreLock:
        """Take the first lock, and with it the run's name. Raises FileExistsError if the run exists; StoreError."""
        return cls._create(store, 1)

    @classmethod
    def take(cls, store: Objects, first: int) -> StoreLock:
        """Take the lock of an existing run, whose latest has at least the number ``first``.

        Raises UserError if another program holds it; StoreError.
        """
        number, owner = latest(store, first)
        if owner is not None and not owner.gone():
            age = max(time.time() - owner.beat, 0.0)
            if age < STALE_SECONDS:
                left = STALE_SECONDS - age
                hint = f"if that program is gone, try again in {left:.0f} s"
                who = f"{owner.host}:{owner.pid}"
                raise UserError(f"{store.url}: another program is running this sweep ({who}, {age:.0f} s ago; {hint})")
        try:
            return cls._create(store, number + 1)
        except FileExistsError:
            raise UserError(f"{store.url}: another program has just started to run this sweep") from None

    @classmethod
    def _create(cls, store: Objects, number: int) -> StoreLock:
        owner = _Owner.this()
        store.create(_name(number), owner.encoded())
        try:
            store.create(_name(number), _Owner.this().encoded())
        except FileExistsError:
            return cls(store, number, owner)
        raise UserError(f"{store.url}: this store does not create objects exclusively (If-None-Match), as a lock needs")

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, for this program's ``from_dict``."""
        return {"number": self.number, "owner": asdict(self._owner)}

    @classmethod
    def from_dict(cls, store: Objects, found: dict[str, Any]) -> StoreLock | None:
        """Return the lock that this program has taken; None if ``found`` is of another program, or none."""
        if "owner" not in found or _Owner(**found["owner"]).pid != os.getpid() or _Owner(**found["owner"]).gone():
            return None
        return cls(store, int(found["number"]), _Owner(**found["owner"]))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Say that this program still runs until the block ends, by a thread: an upload may take minutes. Then release.

        Where the store refuses the release, the lock is stale in a few minutes.
        """
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(BEAT_SECONDS):
                with suppress(StoreError):
                    self._write()

        thread = threading.Thread(target=beat, name="lock", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()  # else its last sign could replace the release
            with suppress(StoreError):
                self.release()

    def is_lost(self) -> bool:
        """Return whether another program has taken over. Raises StoreError."""
        try:
            self.store.read(_name(self.number + 1))
        except FileNotFoundError:
            return False
        return True

    def release(self) -> None:
        """Let the next program take over at once. Raises StoreError."""
        self._owner.released = True
        self._write()

    def _write(self) -> None:
        self._owner.beat = time.time()
        self._signs.write(_name(self.number), self._owner.encoded())


def latest(store: Objects, first: int) -> tuple[int, _Owner | None]:
    """Return the highest number of a lock from ``first`` on, and its owner; None where it has none."""
    number, owner = first - 1, None
    while True:
        try:
            owner = _Owner(**json.loads(store.read(_name(number + 1))))
        except FileNotFoundError:
            return max(number, first - 1), owner
        number += 1


def holder_in_store(store: Objects, first: int) -> dict[str, Any] | None:
    """Return pid and host of the program that runs the sweep, as far as its lock tells; None if none does."""
    owner = latest(store, first)[1]
    if owner is None or owner.gone() or time.time() - owner.beat >= STALE_SECONDS:
        return None
    return {"pid": owner.pid, "host": owner.host, "until": owner.beat + STALE_SECONDS}


def _name(number: int) -> str:
    return f"lock/{number:06d}.json"
