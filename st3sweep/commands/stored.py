"""Keep a run that is in an object store up to date there while it runs here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from st3sweep.reporting.console import warn
from st3sweep.runs.bring import asking, bring, bring_trials
from st3sweep.runs.folder import TRIALS
from st3sweep.runs.ledger import LEDGER, Ledger
from st3sweep.runs.mirror import Mirror
from st3sweep.runs.store import HELD, MANIFEST, MARKER, StoreManifest, read_json, store_of, write_json
from st3sweep.runs.store_lock import StoreLock
from st3sweep.runs.trial_store import TrialStore
from st3sweep.util.errors import UserError
from st3sweep.util.storage.object_errors import StoreError
from st3sweep.util.storage.objects import Objects

KeepOnly = Callable[[int, Iterable[str]], None]


@contextmanager
def kept_in_store(
    folder: Path, *, checkpoints: bool, needed: Callable[[], Iterable[int]] = tuple
) -> Iterator[KeepOnly | None]:
    """Lock the run in its store and store what changes in ``folder`` until the block ends, and then the rest.

    Yields a function that is told which checkpoints of an ended trial stay; None for a run that is in no store.
    ``checkpoints`` is False where workers store them. Before, brings here the checkpoints of the trials that ``needed``
    returns, and those newer in the store than what this machine did not store: it must not replace them. Raises
    UserError where another program runs the sweep.
    """
    url = store_of(folder)
    if url is None:
        yield None
        return
    store = Objects(url)
    lock = StoreLock.from_dict(store, read_json(folder / MARKER) or {})
    if lock is None:
        lock = asking(lambda: _take(store))
    with lock.held():
        asking(lambda: bring(store))
        write_json(folder / MARKER, {"url": url, "by_workers": not checkpoints})
        bring_trials(folder, {*needed(), *(_never_stored(store, folder) if checkpoints else ())})
        with Mirror(folder, lock, warn, checkpoints=checkpoints) as mirror:
            yield mirror.keep_only


@contextmanager
def locked_in_store(folder: Path) -> Iterator[StoreLock | None]:
    """Lock the run in its store until the block ends, and bring what is new; None for a run that is in no store.

    Raises UserError where another program runs the sweep, and where this machine has results that the store lacks:
    what is removed there would be decided by them.
    """
    url = store_of(folder)
    if url is None:
        yield None
        return
    store = Objects(url)
    lock = asking(lambda: _take(store))
    with lock.held():
        try:
            asking(lambda: bring(store))
            stored = (read_json(folder / HELD) or {}).get("manifest", {}).get("ledger_bytes", 0)
            if (folder / LEDGER).is_file() and (folder / LEDGER).stat().st_size > stored:
                hint = f"store them first: st3sweep resume {url}"
                raise UserError(f"{url}: this machine has results that the store does not have; {hint}")
            yield lock
        finally:
            write_json(folder / MARKER, {"url": url})


def _take(store: Objects) -> StoreLock:
    """Take the lock of an existing run, before what others have stored is brought here: it is then the last."""
    manifest = StoreManifest.read(store)
    return StoreLock.take(store, manifest.lock if manifest else 1)


def _never_stored(store: Objects, folder: Path) -> list[int]:
    """Return the trials of which this machine has files that it never stored: the store may have newer ones."""
    numbers = [int(path.name) for path in (folder / TRIALS).glob("[0-9]*")]
    return [number for number in numbers if TrialStore(store, folder, number).has_news()]


def unfinished_trials(folder: Path) -> list[int]:
    """Return the numbers of the trials that a resume continues."""
    return [trial.number for trial in Ledger(folder, read_only=True).unfinished()]


def remove_from_store(folder: Path) -> None:
    """Remove from its store a run that has no trial yet. Raises nothing where the store refuses."""
    url = store_of(folder)
    held = read_json(folder / HELD) or {}
    if url is None:
        return
    store = Objects(url)
    names = [*held.get("manifest", {}).get("files", {}), MANIFEST, "ledger.jsonl/000000", "lock/000001.json"]
    with suppress(StoreError, UserError):
        for name in names:
            store.remove(name)
