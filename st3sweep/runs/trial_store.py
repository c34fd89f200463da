"""Keep the files of one trial in an object store: its settings and checkpoints.

A record beside them, ``stored.json``, counts how often they were stored. A machine whose folder is of the same count
has the same files or newer ones; one of a lower count was left behind by another machine, and takes the store's.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from st3sweep.runs.folder import CONFIG, TRIALS, trial_folder
from st3sweep.runs.store import HELD, check_sum, download, read_json, state, write_json
from st3sweep.training.checkpoint_files import BEST, LAST, PREVIOUS, find_checkpoints, is_checkpoint
from st3sweep.util.storage.objects import Objects

_RECORD = "stored.json"
_READS = 4  # of an object that does not fit its record: it is being replaced


def stored_checkpoints(store: Objects) -> dict[int, dict[str, int]]:
    """Return each trial's checkpoints in the store with their bytes, by name, as the store lists them.

    Includes those that no record names, which a killed program left. Raises StoreError.
    """
    found: dict[int, dict[str, int]] = {}
    for path, size in store.list(TRIALS):
        trial, _, name = path.removeprefix(f"{TRIALS}/").partition("/")
        if trial.isdigit() and is_checkpoint(name):
            found.setdefault(int(trial), {})[name] = size
    return found


class TrialStore:
    """The files of trial ``number`` of the run whose local folder is ``run``. One thread at a time."""

    def __init__(self, store: Objects, run: Path, number: int):
        self.store, self.folder = store, trial_folder(run, number)
        self._prefix = self.folder.relative_to(run).as_posix()

    def push(self) -> bool:
        """Store what is new; return whether anything was. Raises StoreError; the store then has the old or the new.

        What is here must be newer than what the store has of the trial: ``pull`` comes before the trial's training.
        """
        held = self._held()
        taken = self._snapshots(held["files"])
        try:
            for name, (snapshot, now) in reversed(taken.items()):
                self.store.upload(f"{self._prefix}/{name}", snapshot)
                held["files"][name] = [snapshot.stat().st_size, check_sum(snapshot), *now[1:]]
        finally:
            for snapshot, _ in taken.values():
                snapshot.unlink(missing_ok=True)
        if taken:
            stored = self._stored()  # which may count further: by a program whose ledger did not get to the store
            held["seq"] = max(held["seq"], stored["seq"] if stored else 0)
            self._record(held)
        return bool(taken)

    def has_news(self) -> bool:
        """Return whether ``push`` would store something."""
        return any(self._changed(self._held()["files"]))

    def pull(self, *, exactly: bool = False, only_with: str | None = None) -> None:
        """Bring the store's files here, unless those here are as new; ``exactly`` also if newer. Raises StoreError.

        With ``only_with`` nothing changes here where the store has no such file of the trial.
        """
        for attempt in range(_READS):
            found, held = self._stored(), self._held()
            if found is None or (only_with and only_with not in found["files"]):
                return
            record = found
            same = record["seq"] <= held["seq"] and not exactly
            is_here = self._is if exactly else self._is_held
            here = [n for n, facts in record["files"].items() if same or is_here(n, facts)]
            missing = [n for n in record["files"] if n not in here or not (self.folder / n).is_file()]
            if same and not missing:
                return
            self.folder.mkdir(parents=True, exist_ok=True)
            fits = [self._bring(name, record["files"][name], held) for name in missing]
            if all(fits) or attempt == _READS - 1:  # what does not fit is newer, and complete
                break
        for name, path in ({} if same else find_checkpoints(self.folder)).items():
            if name not in record["files"]:  # of an earlier time on this machine
                path.unlink(missing_ok=True)
        held["seq"] = record["seq"]
        held["files"] = {name: found for name, found in held["files"].items() if name in record["files"]}
        write_json(self.folder / HELD, held)

    def keep_only(self, names: Iterable[str]) -> None:
        """Remove the store's checkpoints that are not in ``names``. Raises StoreError."""
        record = self._stored()
        if record is None:
            return
        kept = {CONFIG, *names}
        self._remove([name for name in record["files"] if name not in kept], record)

    def remove(self, names: Iterable[str]) -> None:
        """Remove these of the store's checkpoints, also one that its record does not name. Raises StoreError."""
        self._remove(list(names), self._stored())

    def _remove(self, gone: list[str], record: dict[str, Any] | None) -> None:
        if record and not record["files"].keys().isdisjoint(gone):  # before the files: it must name no missing one
            held, count = self._held(), record["seq"]
            files = {name: facts for name, facts in record["files"].items() if name not in gone}
            self.store.write(f"{self._prefix}/{_RECORD}", json.dumps({"seq": count + 1, "files": files}).encode())
            if held["seq"] == count:  # else another machine's files are newer than those here, and stay so
                here = {name: held["files"].get(name, facts) for name, facts in files.items()}
                write_json(self.folder / HELD, {"seq": count + 1, "files": here})
        for name in gone:
            self.store.remove(f"{self._prefix}/{name}")

    def _snapshots(self, held: dict[str, list[int]]) -> dict[str, tuple[Path, list[int]]]:
        """Return links to the files that have changed, newest last: the best epoch's is at least as new as the last's.

        Stored in reverse, a last checkpoint never refers to a best one that is not in the store.
        """
        found = {}
        for name, path, now in self._changed(held):  # the state of before the link: what came between is stored again
            link = path.with_name(f".{path.name}.storing")
            link.unlink(missing_ok=True)
            with suppress(FileNotFoundError):  # it is being replaced: next time
                _link(path, link)
                found[name] = (link, now)
        return found

    def _changed(self, held: dict[str, list[int]]) -> Iterator[tuple[str, Path, list[int]]]:
        """Yield the files that have changed since they were stored, with their state, in that order."""
        names = [name for name in find_checkpoints(self.folder) if not name.endswith((PREVIOUS, ".tmp"))]
        for name in [*sorted(names, key=lambda n: (n != LAST, n != BEST, not n.endswith(LAST), n)), CONFIG]:
            path = self.folder / name
            with suppress(FileNotFoundError):
                now = state(path)
                if name not in held or [held[name][0], *held[name][2:]] != now:
                    yield name, path, now

    def _bring(self, name: str, facts: list[int], held: dict[str, Any]) -> bool:
        """Download one file; return whether it is the one of the record. One that is not there is left out."""
        path = self.folder / name
        try:
            found = download(self.store, f"{self._prefix}/{name}", path)
        except FileNotFoundError:
            return False
        held["files"][name] = [*found, *state(path)[1:]]
        return facts[:2] == found

    def _is(self, name: str, facts: list[int]) -> bool:
        path = self.folder / name
        return path.is_file() and [path.stat().st_size, check_sum(path)] == facts[:2]

    def _is_held(self, name: str, facts: list[int]) -> bool:
        """Return whether the file here is that one, as far as its time tells: it need not be read."""
        size, check, *now = self._held()["files"].get(name, [None, None])
        path = self.folder / name
        return [size, check] == facts[:2] and path.is_file() and state(path) == [size, *now]

    def _held(self) -> dict[str, Any]:
        return read_json(self.folder / HELD) or {"seq": 0, "files": {}}

    def _stored(self) -> dict[str, Any] | None:
        try:
            return dict(json.loads(self.store.read(f"{self._prefix}/{_RECORD}")))
        except FileNotFoundError:
            return None

    def _record(self, held: dict[str, Any]) -> None:
        held["seq"] += 1
        record = {"seq": held["seq"], "files": {name: facts[:2] for name, facts in held["files"].items()}}
        self.store.write(f"{self._prefix}/{_RECORD}", json.dumps(record).encode())
        if self.folder.is_dir():
            with suppress(OSError):  # a full disk: the same is stored again
                write_json(self.folder / HELD, held)


def _link(path: Path, link: Path) -> None:
    """Keep the file as it is now under another name, by a copy where the file system has no links."""
    try:
        os.link(path, link)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(path, link)
