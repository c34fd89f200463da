"""Store a run in an object store while it runs in its local folder, by a thread that no trial waits for.

A cycle stores, in this order, so that the store holds at any time what a killed program could have left in a folder:
checkpoints, the ledger as it was before them, tables, the manifest; then it removes checkpoints of ended trials.
"""

from __future__ import annotations

import json
import queue
import threading
import time
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from st3sweep.runs.folder import STOP_REQUEST
from st3sweep.runs.ledger import LEDGER
from st3sweep.runs.manifest import MANIFEST as TABLES_MANIFEST
from st3sweep.runs.manifest import checked
from st3sweep.runs.store import HELD, StoreManifest, files_of, read_json, state, write_json
from st3sweep.runs.store_lock import StoreLock
from st3sweep.runs.trial_store import TrialStore
from st3sweep.util.storage.atomic import atomic_write
from st3sweep.util.storage.local import Local
from st3sweep.util.storage.object_errors import StoreError
from st3sweep.util.storage.objects import ObjectLog
from st3sweep.util.text import counted

INTERVAL_SECONDS = 10.0  # between the starts of two cycles; what was stored less than that ago may be lost
LONGEST_PAUSE_SECONDS = 60.0  # between two tries, while the store refuses
LAST_TRY_SECONDS = 60.0  # at the end of the program
AT_A_TIME = 8  # requests
_PIECE = 8 << 20  # bytes of the ledger in one request


class Mirror:
    """Keeps the store of the run in ``folder`` up to date while the context is entered, and ``lock`` held.

    ``checkpoints`` is False where the workers store them, which may be on other machines. ``say`` shows the user a
    line. Errors of the store never end the sweep: what could not be stored is stored later, at the end, or by resume.
    """

    def __init__(
        self,
        folder: Path,
        lock: StoreLock,
        say: Callable[[str], None],
        *,
        checkpoints: bool = True,
    ):
        self.folder, self.store, self.lock = folder, lock.store, lock
        self._say, self._checkpoints = say, checkpoints
        held = read_json(folder / HELD) or {}
        self.manifest = StoreManifest(**held.get("manifest", {}))
        self._files: dict[str, list[int]] = held.get("files", {})  # state of each file when it was stored
        self._log: ObjectLog | None = None
        self._followed = 0  # bytes of the ledger whose events are known here
        self._open: set[int] = set()  # trials that train
        self._dirty = {int(path.name) for path in (folder / "trials").glob("[0-9]*")}  # to be looked at once
        self._to_forget: queue.SimpleQueue[tuple[int, tuple[str, ...]]] = queue.SimpleQueue()
        self._forgetting: dict[int, tuple[str, ...]] = {}
        self._stop, self._taken_over, self._failing = threading.Event(), False, False
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)
        self.cycles = 0

    def __enter__(self) -> Mirror:
        self._pool = ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="store")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        try:
            self._thread.join()
            self._finish()
        finally:
            self._pool.shutdown(cancel_futures=True)

    def keep_only(self, trial: int, names: Iterable[str]) -> None:
        """Remove from the store, later, the checkpoints of an ended trial that are not in ``names``."""
        self._to_forget.put((trial, tuple(names)))

    def _run(self) -> None:
        pause = INTERVAL_SECONDS
        while not self._stop.wait(pause):
            started = time.monotonic()
            try:
                self._cycle()
            except StoreError as error:
                pause = min(max(2 * pause, 1.0), LONGEST_PAUSE_SECONDS)
                if not self._failing:
                    self._say(f"{error}; the sweep continues, and is stored once that is possible")
                self._failing = True
            except OSError as error:  # of the local disk, which the driver tells about
                pause = LONGEST_PAUSE_SECONDS
                self._say(f"{self.store.url}: nothing is stored ({error.strerror}: {error.filename})")
            else:
                if self._failing:
                    self._say(f"{self.store.url}: stored again")
                self._failing = False
                pause = max(INTERVAL_SECONDS - (time.monotonic() - started), 0.0)
            if self._taken_over:
                return

    def _finish(self) -> None:
        """Store the rest, with some patience; say what could not be stored."""
        if self._taken_over:
            return
        end = time.monotonic() + LAST_TRY_SECONDS
        while True:
            try:
                self._cycle()
                return
            except StoreError as error:
                why = str(error)
                if not error.passes or time.monotonic() > end:
                    break
            except OSError as error:  # of the local disk; the program ends as it would have without a store
                why = f"{self.folder}: {error.strerror}"
                break
            time.sleep(1.0)
        self._say(f"{why}; not stored: {self._missing()}; store it with: st3sweep resume {self.store.url}")

    def _missing(self) -> str:
        """Return in words what the store does not have yet."""
        ledger = (self.folder / LEDGER).stat().st_size if (self.folder / LEDGER).exists() else 0
        stored = self._log.size if self._log else self.manifest.ledger_bytes
        files = sum(self._is_new(name) for name in files_of(self.folder))
        trials = counted(len(self._dirty | self._open) if self._checkpoints else 0, "trial")
        return f"{max(ledger - stored, 0):,} bytes of the ledger, {counted(files, 'file')}, checkpoints of {trials}"

    def _cycle(self) -> None:
        self.cycles += 1
        if self.lock.is_lost():
            self._give_up()
            return
        self._take_stop_request()
        tables = _content(self.folder / TABLES_MANIFEST)  # before the ledger: it must not know more than that
        end = self._follow()
        if self._checkpoints:
            self._push_trials()
        changed = self._push_ledger(end)
        changed |= self._push_files(tables)
        if changed:
            self._write_manifest()
        self._forget()

    def _give_up(self) -> None:
        self._taken_over = True
        with atomic_write(self.folder / STOP_REQUEST) as file:
            file.write(b"now")
        self._say(f"{self.store.url}: another program runs this sweep now; nothing more is stored, and it stops here")

    def _take_stop_request(self) -> None:
        with suppress(FileNotFoundError):
            request = self.store.read(STOP_REQUEST)
            self.store.remove(STOP_REQUEST)
            with atomic_write(self.folder / STOP_REQUEST) as file:
                file.write(request)

    def _follow(self) -> int:
        """Read the ledger's new lines to know which trials train; return its bytes up to the last whole line."""
        try:
            with open(self.folder / LEDGER, "rb") as file:
                file.seek(self._followed)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._followed += len(line)
                    event = json.loads(line)
                    if event["event"] == "began":
                        self._open.add(event["trial"])
                    elif event["event"] == "done":
                        self._open.discard(event["trial"])
                        self._dirty.add(event["trial"])
        except FileNotFoundError:
            return 0
        return self._followed

    def _push_trials(self) -> None:
        looked = sorted(self._dirty | self._open)
        list(self._pool.map(lambda number: TrialStore(self.store, self.folder, number).push(), looked))
        self._dirty.difference_update(looked)

    def _push_ledger(self, end: int) -> bool:
        if self._log is None:
            log = ObjectLog(self.store, LEDGER, self.manifest.part, self.manifest.before)
            if log.size > end or not begins_with(self.folder / LEDGER, log.before, log.last):
                raise StoreError(f"{self.store.url}: has another ledger than {self.folder}")
            self._log = log
        if self._log.size == end:
            return False
        with open(self.folder / LEDGER, "rb") as file:
            file.seek(self._log.size)
            while self._log.size < end:
                lines = file.read(min(_PIECE, end - self._log.size))
                if self._log.size + len(lines) < end:
                    lines += file.readline()
                self._log.append(lines)
        return True

    def _push_files(self, tables: bytes | None) -> bool:
        new = [name for name in files_of(self.folder) if name != TABLES_MANIFEST and self._is_new(name)]
        list(self._pool.map(self._push_file, new))
        if tables is None or not self._is_new(TABLES_MANIFEST):
            return bool(new)
        self.store.write(TABLES_MANIFEST, tables)
        path = self.folder / TABLES_MANIFEST
        with suppress(FileNotFoundError):
            before = state(path)
            if _content(path) == tables:  # else it is new once more
                self._files[TABLES_MANIFEST] = before
            self.manifest.files[TABLES_MANIFEST] = _facts(tables)
        return True

    def _push_file(self, name: str) -> None:
        with suppress(FileNotFoundError):  # removed meanwhile
            path = self.folder / name
            before = state(path)
            content = path.read_bytes()
            self.store.write(name, content)
            self._files[name], self.manifest.files[name] = before, _facts(content)

    def _is_new(self, name: str) -> bool:
        with suppress(FileNotFoundError):
            return self._files.get(name) != state(self.folder / name)
        return False

    def _write_manifest(self) -> None:
        assert self._log is not None
        now = self.manifest
        now.lock, now.part, now.before, now.ledger_bytes = (
            self.lock.number, self._log.number, self._log.before, self._log.size,
        )  # fmt: skip
        now.ledger_check = checked(Local(self.folder), LEDGER, self._log.size) if self._log.size else 0
        if self.lock.is_lost():
            self._give_up()
            return
        now.write(self.store)
        with suppress(OSError):  # a full disk: the next program brings what this one has stored
            write_held(self.folder, now, self._files)

    def _forget(self) -> None:
        while not self._to_forget.empty():
            number, names = self._to_forget.get()
            self._forgetting[number] = names
        for number, names in list(self._forgetting.items()):
            if number not in self._dirty:
                TrialStore(self.store, self.folder, number).keep_only(names)
                del self._forgetting[number]


def begins_with(ledger: Path, before: int, content: bytes) -> bool:
    """Return whether the file has ``content`` after its first ``before`` bytes; an absent one is empty."""
    if not ledger.is_file():
        return not before and not content
    with open(ledger, "rb") as file:
        file.seek(before)
        return file.read(len(content)) == content


def write_held(folder: Path, manifest: StoreManifest, files: dict[str, list[int]]) -> None:
    """Record in the local folder what the store holds: its manifest, and the state of the files here that are in it."""
    write_json(folder / HELD, {"manifest": vars(manifest), "files": files})


def _facts(content: bytes) -> list[int]:
    return [len(content), zlib.crc32(content)]


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
