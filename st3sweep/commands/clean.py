"""Remove the checkpoints of a run that are no longer needed, or say which these are and why."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from st3sweep.commands.stored import locked_in_store
from st3sweep.reporting.console import say, short
from st3sweep.runs.bring import asking, local_run
from st3sweep.runs.folder import RESOLVED, existing_run, holder, lock, trial_folder
from st3sweep.runs.ledger import Ledger, Trial
from st3sweep.runs.mirror import AT_A_TIME
from st3sweep.runs.store import store_of
from st3sweep.runs.store_lock import StoreLock
from st3sweep.runs.trial_store import TrialStore, stored_checkpoints
from st3sweep.space.loading import load_stored_space
from st3sweep.space.resources import Checkpoints
from st3sweep.sweep.checkpoints import Fronts, Removable, kept_of, removable
from st3sweep.training.checkpoint_files import find_checkpoints
from st3sweep.util.errors import UserError
from st3sweep.util.storage.objects import Objects
from st3sweep.util.text import aligned, format_bytes, json_line

KEEP = ("front", "finished")
_TRIALS = 64  # whose checkpoints are removed from a store between two looks at its lock


@dataclass(frozen=True)
class File:
    """A checkpoint of a ``trial`` that need not stay: its path or address, its size, and why."""

    trial: int
    file: str
    bytes: int
    why: str


@dataclass(frozen=True)
class Cleaned:
    """The ``files`` that need not stay, the ``bytes`` of all checkpoints of the run, and its unfinished trials.

    Of a run in an object store these are the store's; ``copies`` are the bytes of its files here that need not stay.
    """

    files: list[File]
    bytes: int
    unfinished: int
    copies: int = 0

    @property
    def freed(self) -> int:
        """Return the bytes of ``files``."""
        return sum(file.bytes for file in self.files)


def clean(folder: Path, keep: str, *, yes: bool) -> Cleaned:
    """Find the checkpoints in the run in ``folder`` that ``keep`` (one of KEEP) leaves out; remove them if ``yes``.

    Of a run in an object store: those there, and their copies on this machine. Raises UserError if ``folder`` is not a
    run, a program runs the sweep, or a file cannot be removed.
    """
    if keep not in KEEP:
        raise UserError(f"--keep {keep}: allowed: {', '.join(KEEP)}")
    folder = existing_run(local_run(folder))
    url = store_of(folder)
    with _locked(folder) if yes else _unused(folder) as store_lock:
        trials = list(Ledger(folder, read_only=True).trials.values())
        fronts = Fronts(load_stored_space(folder / RESOLVED).config.goals(), trials if keep == "front" else ())
        here, total = _in_folder(folder, trials, cast(Checkpoints, keep), fronts)
        files = [File(one.trial, str(one.path), size, one.why) for one, size in here]
        unfinished = sum(trial.status == "running" for trial in trials)
        found = Cleaned(files, total, unfinished)
        if url:
            stored = asking(lambda: stored_checkpoints(Objects(url)))
            files = list(_in_store(url, trials, stored, cast(Checkpoints, keep), fronts))
            found = Cleaned(files, sum(sum(sizes.values()) for sizes in stored.values()), unfinished, found.freed)
        failed = [error for one, _ in here if yes and (error := one.remove())]
        if store_lock:
            asking(lambda: _remove_from_store(store_lock, folder, files))
    if failed:
        more = f"; and {len(failed) - 1:,} more" if failed[1:] else ""
        raise UserError(f"{failed[0].filename}: cannot be removed ({failed[0].strerror}){more}")
    return found


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[StoreLock | None]:
    with locked_in_store(folder) as store_lock, lock(folder):
        yield store_lock


@contextlib.contextmanager
def _unused(folder: Path) -> Iterator[None]:
    """Refuse a run that a program runs, without a lock: whoever only reads may have no right to write."""
    if who := holder(folder):
        hint = f"stop it, or resume it with --set resources.checkpoints=... --extend ({who['host']}:{who['pid']})"
        raise UserError(f"{store_of(folder) or folder}: a program is running this sweep; {hint}")
    yield


def _in_folder(
    folder: Path, trials: list[Trial], keep: Checkpoints, fronts: Fronts
) -> tuple[list[tuple[Removable, int]], int]:
    """Return the files in ``folder`` that need not stay with their bytes, and the bytes of all checkpoints there."""
    found, total = [], 0
    for trial in trials:
        sizes = {path: _size(path) for path in find_checkpoints(trial_folder(folder, trial.number)).values()}
        found += [(one, sizes.get(one.path, 0)) for one in removable(folder, trial, keep, fronts)]
        total += sum(sizes.values())
    return found, total


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _in_store(
    url: str, trials: list[Trial], stored: Mapping[int, Mapping[str, int]], keep: Checkpoints, fronts: Fronts
) -> Iterator[File]:
    for trial in trials:
        if kept := kept_of(trial, keep, fronts):
            for name, size in stored.get(trial.number, {}).items():
                if name not in kept[0]:
                    yield File(trial.number, _address(url, trial.number, name), size, kept[1])


def _address(url: str, trial: int, name: str) -> str:
    return f"{url}/{trial_folder(Path(), trial).as_posix()}/{name}"


def _remove_from_store(lock: StoreLock, folder: Path, files: list[File]) -> None:
    """Remove ``files``, some trials at a time, while the lock is held. Raises UserError, StoreError."""
    store, names = lock.store, dict[int, list[str]]()
    for file in files:
        names.setdefault(file.trial, []).append(file.file.removeprefix(_address(store.url, file.trial, "")))
    trials = list(names)
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for start in range(0, len(trials), _TRIALS):
            if lock.is_lost():
                raise UserError(f"{store.url}: another program runs this sweep now; nothing more is removed")
            some = trials[start : start + _TRIALS]
            list(pool.map(lambda number: TrialStore(store, folder, number).remove(names[number]), some))


def print_clean(folder: Path, keep: str, *, yes: bool, as_json: bool) -> None:
    """Print what ``clean`` finds; as JSON, each file too. Raises UserError as it does."""
    found = clean(folder, keep, yes=yes)
    if as_json:
        url = store_of(folder)
        facts = {"folder": url or str(folder.absolute()), "keep": keep, "removed": yes, "bytes": found.bytes}
        copies = {"copies": found.copies} if url else {}
        print(json_line({**facts, "freed": found.freed, **copies, "files": [vars(file) for file in found.files]}))
        return
    if found.files:
        print(aligned([("why", "trials", "files", "size"), *_by_reason(found.files)], left=[0]) + "\n")
    if found.unfinished:
        keeps = "trial keeps its" if found.unfinished == 1 else "trials keep their"
        say(f"{found.unfinished:,} unfinished {keeps} checkpoints: resume continues from them")
    sizes = f"{format_bytes(found.freed)} of {format_bytes(found.bytes)}"
    if found.copies:
        sizes += f", and {format_bytes(found.copies)} of copies on this machine"
    if yes or not (found.files or found.copies):
        say(f"{short(folder)}: freed {sizes}")
    else:
        say(f"{short(folder)}: would free {sizes}; to remove: st3sweep clean {short(folder)} --keep {keep} --yes")


def _by_reason(files: list[File]) -> Iterator[tuple[str, str, str, str]]:
    for why in dict.fromkeys(file.why for file in files):
        some = [file for file in files if file.why == why]
        trials = len({file.trial for file in some})
        yield why, f"{trials:,}", f"{len(some):,}", format_bytes(sum(file.bytes for file in some))
