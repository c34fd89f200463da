"""Bring a run from an object store into its local folder, where every command reads it."""

from __future__ import annotations

import fcntl
import itertools
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from st3sweep.runs.folder import RESOLVED, STOP_REQUEST, holder, trial_folder
from st3sweep.runs.ledger import LEDGER
from st3sweep.runs.manifest import checked
from st3sweep.runs.mirror import AT_A_TIME, begins_with, write_held
from st3sweep.runs.store import (
    HELD,
    MANIFEST,
    MARKER,
    StoreManifest,
    download,
    local_folder,
    read_json,
    state,
    store_of,
    write_json,
)
from st3sweep.runs.store_lock import holder_in_store
from st3sweep.runs.trial_store import TrialStore
from st3sweep.training.checkpoint_files import BEST
from st3sweep.util.errors import UserError
from st3sweep.util.storage.atomic import atomic_write
from st3sweep.util.storage.local import Local
from st3sweep.util.storage.object_errors import StoreError
from st3sweep.util.storage.objects import ObjectLog, Objects, part_name, read_parts
from st3sweep.util.storage.urls import url_of

_READS = 4  # of files that do not fit the manifest: they are being replaced
_PATIENCE = (0.2, 0.5, 1.0, 2.0, 4.0)  # seconds, for a part that the manifest names and the store does not show yet
_Answer = TypeVar("_Answer")


def local_run(place: Path | str, *, anew: bool = True) -> Path:
    """Return the folder of a run, which may be given by its address: its ledger and tables are then brought here.

    ``anew``: for a local folder of such a run, too. Raises UserError where there is no such run or the store refuses.
    """
    url = url_of(place) or (store_of(Path(place)) if anew else None)
    if url is None:
        return Path(place)
    return asking(lambda: bring(Objects(url)))


def asking(do: Callable[[], _Answer]) -> _Answer:
    """Return what ``do`` returns. Raises UserError where the store refuses: a command needs its answer."""
    try:
        return do()
    except StoreError as error:
        raise UserError(str(error)) from None


def bring(store: Objects) -> Path:
    """Bring ledger and tables of the run at ``store`` here, unless what is here is as new; return the folder.

    Raises UserError where there is no run, and StoreError.
    """
    folder = local_folder(store.url)
    if holder(folder, in_store=False):
        return folder  # a program on this machine runs it: nothing is newer
    manifest = StoreManifest.read(store)
    if manifest is None and (folder / RESOLVED).is_file():
        return folder  # of a run that was started here, and could store nothing
    if manifest is None or RESOLVED not in manifest.files:
        raise UserError(f"{store.url}: not a run (it has no {MANIFEST})")
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".bringing", "a") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        held = read_json(folder / HELD) or {"manifest": {}, "files": {}}
        here = StoreManifest(**held["manifest"])
        if not _is_ahead(store, folder, manifest):
            files = _bring_files(store, folder, here, manifest, held["files"])
            _bring_ledger(store, folder, here, manifest)  # last: tables refer to lines of it, and are stored after it
            write_held(folder, manifest, files)
        found = holder_in_store(store, manifest.lock)
        write_json(folder / MARKER, {"url": store.url, "holder": found})
    return folder


def _is_ahead(store: Objects, folder: Path, manifest: StoreManifest) -> bool:
    """Return whether the ledger here begins with the store's and has more: this machine could not store all."""
    if _size(folder) <= manifest.ledger_bytes or not (folder / RESOLVED).is_file():
        return False
    log = ObjectLog(store, LEDGER, manifest.part, manifest.before)
    return log.size < _size(folder) and _begins_with(folder, manifest, log)


def _begins_with(folder: Path, manifest: StoreManifest, log: ObjectLog) -> bool:
    """Return whether the ledger here, of no fewer bytes, begins with the store's, of which the manifest may lack some.

    A program that was killed between the two, or ended by its store, has not written the manifest.
    """
    same = _check(folder, manifest.ledger_bytes) == manifest.ledger_check
    return same and begins_with(folder / LEDGER, log.before, log.last)


def _size(folder: Path) -> int:
    return (folder / LEDGER).stat().st_size if (folder / LEDGER).is_file() else 0


def _check(folder: Path, size: int) -> int:
    return checked(Local(folder), LEDGER, size) if size else 0


def _bring_ledger(store: Objects, folder: Path, here: StoreManifest, manifest: StoreManifest) -> None:
    """Make the ledger here the store's, by its new parts where the rest is here; ``manifest`` is then that of here."""
    path, size = folder / LEDGER, _size(folder)
    log = ObjectLog(store, LEDGER, manifest.part, manifest.before)
    if size == log.size >= manifest.ledger_bytes and _begins_with(folder, manifest, log):
        manifest.part, manifest.before, manifest.ledger_bytes = log.number, log.before, log.size
        manifest.ledger_check = _check(folder, size)
        return
    same = size == here.ledger_bytes <= manifest.ledger_bytes and _check(folder, size) == here.ledger_check
    number, before = (here.part, here.before) if same else (0, 0)
    with suppress(FileNotFoundError):
        (folder / "study.journal").unlink()  # it is rebuilt: another program's proposals may have the same numbers
    with open(path, "r+b" if path.exists() else "w+b") as file, ThreadPoolExecutor(AT_A_TIME) as pool:
        file.truncate(before)
        file.seek(before)
        parts = pool.map(lambda number: (number, _part(store, number)), range(number, manifest.part + 1))
        for part in itertools.chain(parts, read_parts(store, LEDGER, manifest.part + 1)):  # the last ones are newer
            number, before = part[0], file.tell()
            file.write(part[1])
        size = file.tell()
        file.flush()
        os.fsync(file.fileno())
    if size < manifest.ledger_bytes or _check(folder, manifest.ledger_bytes) != manifest.ledger_check:
        raise StoreError(f"{store.url}: the ledger does not fit {MANIFEST}; try again in a minute")
    manifest.part, manifest.before, manifest.ledger_bytes = number, before, size
    manifest.ledger_check = _check(folder, size)


def _part(store: Objects, number: int) -> bytes:
    for pause in (*_PATIENCE, None):
        try:
            return store.read(part_name(LEDGER, number))
        except FileNotFoundError:
            if pause is None:
                raise StoreError(f"{store.url}: {part_name(LEDGER, number)} is missing, or not shown yet") from None
        time.sleep(pause)
    raise AssertionError


def _bring_files(
    store: Objects, folder: Path, here: StoreManifest, manifest: StoreManifest, held: dict[str, list[int]]
) -> dict[str, list[int]]:
    """Download the files that are not here; return their states. Those that are being replaced are read again."""
    known: dict[str, list[int]] = dict(here.files)

    def one(name: str) -> None:
        with suppress(FileNotFoundError):
            known[name] = download(store, name, folder / name)
            held[name] = state(folder / name)

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for _ in range(_READS):
            wanted = [
                name for name, facts in manifest.files.items()
                if known.get(name) != facts or not (folder / name).is_file()
            ]  # fmt: skip
            if not wanted:
                break
            list(pool.map(one, wanted))
            newer = StoreManifest.read(store)
            if newer is not None:
                manifest.files = newer.files
    return held


def ask_to_stop(folder: Path, request: str) -> dict[str, Any]:
    """Leave a ``request`` (``now`` or ``drain``) for the program that runs the sweep; return its pid and host.

    If it runs elsewhere, as of when the run was brought here, the request is left in the store. Raises UserError if no
    program does.
    """
    url, who = store_of(folder), holder(folder)
    if who is None:
        raise UserError(f"{folder}: no program is running this sweep")
    if url is None or holder(folder, in_store=False):
        with atomic_write(folder / STOP_REQUEST) as file:
            file.write(request.encode())
    else:
        asking(lambda: Objects(url).write(STOP_REQUEST, request.encode()))
    return who


def bring_models(folder: Path, numbers: Iterable[int]) -> None:
    """Bring the checkpoints of trials that have ended, to read their models. Raises UserError.

    Here stays a copy of a model that the store has no longer, and what a program here trains and stores itself.
    """
    if holder(folder, in_store=False) and not (read_json(folder / MARKER) or {}).get("by_workers"):
        numbers = [number for number in numbers if not (trial_folder(folder, number) / BEST).is_file()]
    bring_trials(folder, numbers, only_with=BEST)


def bring_trials(folder: Path, numbers: Iterable[int], *, only_with: str | None = None) -> None:
    """Bring the checkpoints of trials, if the run is kept in an object store and here are none as new.

    With ``only_with`` only of those of which the store has that file. Raises UserError.
    """
    url = store_of(folder)
    if url is None:
        return
    store = Objects(url)

    def pull(number: int) -> None:
        TrialStore(store, folder, number).pull(only_with=only_with)

    def pull_all() -> list[Any]:
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            return list(pool.map(pull, numbers))

    asking(pull_all)
