"""The study's file: Optuna's journal, one JSON line an operation, for the one program that runs the sweep.

Optuna's own backend syncs the disk and opens the file anew for each of the ten operations of a trial. Here a line is
what a kill leaves whole; what a power cut takes with it is put back from the ledger (``Searcher.reconcile``).
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
    """The journal at ``path``, in Optuna's format: its own programs may read it, and write notes, at any time.

    The run's folder is locked, so a lock of the journal found here is one that a killed process left behind.
    """

    def __init__(self, path: Path):
        self.path = path
        with contextlib.suppress(FileNotFoundError):
            path.with_name(f"{path.name}.lock").unlink()
        with contextlib.suppress(FileNotFoundError):
            drop_torn_line(path)  # Optuna appends to it, and can then read neither
        self._lock = JournalFileSymlinkLock(str(path))
        self._written = open(path, "ab", buffering=0)  # noqa: SIM115 (both are open for the life of the run)
        self._file = open(path, "rb")  # noqa: SIM115
        self._number = self._offset = 0  # lines read so far, and their bytes

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The operations from number ``log_number_from`` on; costs one look at the size where there are none."""
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
                yield json.loads(line)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append operations, all or none of them."""
        lines = "".join(f"{json.dumps(log, separators=(',', ':'))}\n" for log in logs).encode()
        self._lock.acquire()
        try:
            append(self._written, lines)
        except OSError as error:
            raise LedgerError(f"{self.path}: cannot be written ({error.strerror})") from error
        finally:
            self._lock.release()
