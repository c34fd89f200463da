"""Storage backend of the study: Optuna's journal, one JSON line an operation, written by the run's one program.

Optuna's backend syncs the disk and reopens the file for each of the ten operations of a trial. This one does neither:
a kill leaves whole lines, and what a power cut loses is restored from the ledger (``Searcher.reconcile``).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend, JournalFileSymlinkLock

from st3sweep.runs.ledger import LedgerError
from st3sweep.util.storage.append_only import append, drop_torn_line


class Journal(BaseJournalBackend):
    """The journal at ``path``, in Optuna's format: Optuna's tools may read it, and write notes, at any time.

    The run's folder is locked, so an existing lock of the journal was left by a killed process and is removed.
    """

    def __init__(self, path: Path):
        self.path = path
        with contextlib.suppress(FileNotFoundError):
            path.with_name(f"{path.name}.lock").unlink()
        with contextlib.suppress(FileNotFoundError):
            drop_torn_line(path)  # Optuna would append to it, and could then read neither line
        self._lock = JournalFileSymlinkLock(str(path))
        self._written = open(path, "ab", buffering=0)  # noqa: SIM115 (both stay open as long as the run)
        self._file = open(path, "rb")  # noqa: SIM115
        self._number = self._offset = 0  # lines read so far, and their bytes

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the operations from number ``log_number_from`` on; without new ones only the file size is read."""
        if log_number_from < self._number:
            self._number = self._offset = 0
        if os.fstat(self._file.fileno()).st_size == self._offset:
            return
        self._file.seek(self._offset)
        for line in self._file:
            if not line.endswith(b"\n"):
                return  # another program is writing it
            self._number, self._offset = self._number + 1, self._offset + len(line)
            if self._number > log_number_from:
                yield json.loads(line.decode())  # from bytes it takes a sixth longer

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append operations, all or none. Raises LedgerError if the file cannot be written."""
        lines = "".join(f"{json.dumps(log, separators=(',', ':'))}\n" for log in logs).encode()
        self._lock.acquire()
        try:
            append(self._written, lines)
        except OSError as error:
            raise LedgerError(f"{self.path}: cannot be written ({error.strerror})") from error
        finally:
            self._lock.release()
