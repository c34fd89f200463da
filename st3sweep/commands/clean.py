"""Remove the checkpoints of a run that are no longer needed, or say which these are and why."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from st3sweep.reporting.console import say, short
from st3sweep.runs.folder import RESOLVED, existing_run, holder, lock, trial_folder
from st3sweep.runs.ledger import Ledger
from st3sweep.runs.store import store_of
from st3sweep.space.loading import load_stored_space
from st3sweep.space.resources import Checkpoints
from st3sweep.sweep.checkpoints import Fronts, Removable, removable
from st3sweep.training.checkpoint_files import find_checkpoints
from st3sweep.util.errors import UserError
from st3sweep.util.text import aligned, format_bytes, json_line

KEEP = ("front", "finished")


@dataclass(frozen=True)
class File:
    """A checkpoint that need not stay, with its size."""

    found: Removable
    bytes: int

    def row(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "trial": self.found.trial,
            "file": str(self.found.path),
            "bytes": self.bytes,
            "why": self.found.why,
        }


@dataclass(frozen=True)
class Cleaned:
    """The ``files`` that need not stay, the ``bytes`` of all checkpoints of the run, and its unfinished trials."""

    files: list[File]
    bytes: int
    unfinished: int

    @property
    def freed(self) -> int:
        """Return the bytes of ``files``."""
        return sum(file.bytes for file in self.files)


def clean(folder: Path, keep: str, *, yes: bool) -> Cleaned:
    """Find the checkpoints in the run in ``folder`` that ``keep`` (one of KEEP) leaves out; remove them if ``yes``.

    Raises UserError if ``folder`` is not a run, a program runs the sweep, or a file cannot be removed.
    """
    if keep not in KEEP:
        raise UserError(f"--keep {keep}: allowed: {', '.join(KEEP)}")
    folder = existing_run(folder)
    if url := store_of(folder):
        hint = f"st3sweep resume {url} --set resources.checkpoints={keep} --extend"
        raise UserError(f"{url}: clean works on folders only; this removes them: {hint}")
    with lock(folder) if yes else _unused(folder):
        found = _find(folder, cast(Checkpoints, keep))
        failed = [error for file in found.files if yes and (error := file.found.remove())]
    if failed:
        more = f"; and {len(failed) - 1:,} more" if failed[1:] else ""
        raise UserError(f"{failed[0].filename}: cannot be removed ({failed[0].strerror}){more}")
    return found


@contextlib.contextmanager
def _unused(folder: Path) -> Iterator[None]:
    """Refuse a run that a program runs, without a lock: whoever only reads may have no right to write."""
    if who := holder(folder):
        hint = f"stop it, or resume it with --set resources.checkpoints=... --extend ({who['host']}:{who['pid']})"
        raise UserError(f"{folder}: a program is running this sweep; {hint}")
    yield


def _find(folder: Path, keep: Checkpoints) -> Cleaned:
    trials = Ledger(folder, read_only=True).trials.values()
    fronts = Fronts(load_stored_space(folder / RESOLVED).config.goals(), trials if keep == "front" else ())
    files, total = [], 0
    for trial in trials:
        sizes = {path: _size(path) for path in find_checkpoints(trial_folder(folder, trial.number)).values()}
        files += [File(one, sizes.get(one.path, 0)) for one in removable(folder, trial, keep, fronts)]
        total += sum(sizes.values())
    return Cleaned(files, total, sum(trial.status == "running" for trial in trials))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def print_clean(folder: Path, keep: str, *, yes: bool, as_json: bool) -> None:
    """Print what ``clean`` finds; as JSON, each file too. Raises UserError as it does."""
    found = clean(folder, keep, yes=yes)
    if as_json:
        facts = {"folder": str(folder.absolute()), "keep": keep, "removed": yes, "bytes": found.bytes}
        print(json_line({**facts, "freed": found.freed, "files": [file.row() for file in found.files]}))
        return
    if found.files:
        print(aligned([("why", "trials", "files", "size"), *_by_reason(found.files)], left=[0]) + "\n")
    if found.unfinished:
        keeps = "trial keeps its" if found.unfinished == 1 else "trials keep their"
        say(f"{found.unfinished:,} unfinished {keeps} checkpoints: resume continues from them")
    sizes = f"{format_bytes(found.freed)} of {format_bytes(found.bytes)}"
    if yes or not found.files:
        say(f"{short(folder)}: freed {sizes}")
    else:
        say(f"{short(folder)}: would free {sizes}; to remove: st3sweep clean {short(folder)} --keep {keep} --yes")


def _by_reason(files: list[File]) -> Iterator[tuple[str, str, str, str]]:
    for why in dict.fromkeys(file.found.why for file in files):
        some = [file for file in files if file.found.why == why]
        trials = len({file.found.trial for file in some})
        yield why, f"{trials:,}", f"{len(some):,}", format_bytes(sum(file.bytes for file in some))
