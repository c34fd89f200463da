"""Create and lock a run's folder; read and write its files other than tables."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import yaml

from st3sweep.runs.provenance import provenance
from st3sweep.runs.store import MARKER, local_folder, read_json, write_json
from st3sweep.runs.store_lock import StoreLock
from st3sweep.trial.plugins import foreign_components
from st3sweep.util.errors import UserError
from st3sweep.util.storage.atomic import atomic_write
from st3sweep.util.storage.object_errors import StoreError
from st3sweep.util.storage.objects import Objects
from st3sweep.util.storage.urls import check_url, url_of

SPACE, RESOLVED, PROVENANCE = "space.yaml", "resolved.yaml", "provenance.json"
LOCK, STOP_REQUEST, TRIALS = ".lock", "stop.request", "trials"
CONFIG = "config.yaml"  # of a trial
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # written in C where PyYAML has it: a fifth of the time


def new_run(default_name: str, document: dict[str, Any], text: str, storage: Path, name: str | None) -> Path:
    """Create the folder of a new run: the space as given, the space with ``--set`` applied, and the provenance.

    ``document`` is the space as plain data, ``text`` its YAML as it was read. ``name`` must be free; without one,
    ``default_name`` is used, numbered from 2 if it is taken.
    """
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UserError(f"--name {name}: letters, digits, dot, dash and underscore only")
    base = name or default_name
    number = 1
    url = url_of(storage)
    while True:
        numbered = base if number == 1 else f"{base}-{number}"
        place = f"{check_url(url)}/{numbered}" if url else None
        folder = local_folder(place) if place else (storage / numbered).absolute()
        try:
            folder.mkdir(parents=True)
            if place:
                _claim(place, folder)
            break
        except FileExistsError:
            if name is not None:
                raise UserError(
                    f"{place or folder}: exists; resume it with `st3sweep resume`, or choose another name"
                ) from None
            number += 1
        except OSError as error:
            raise UserError(f"{folder}: cannot be made ({error.strerror})") from None
    (folder / SPACE).write_text(text, encoding="utf-8")
    write_resolved(folder, document)
    data: dict[str, Any] = document["trial"].get("data", {})
    record = {**provenance(data.get("root")), "plugins": foreign_components(document)}
    facts = json.dumps(record, indent=2, ensure_ascii=False)
    (folder / PROVENANCE).write_bytes(facts.encode(errors="backslashreplace") + b"\n")  # file names in any encoding
    return folder


def _claim(url: str, folder: Path) -> None:
    """Take the name of a new run in an object store, with its first lock. Raises FileExistsError, UserError."""
    try:
        store = Objects(url)
        write_json(folder / MARKER, {"url": url, **StoreLock.of_new_run(store).as_dict()})
    except BaseException as error:
        folder.rmdir()
        if isinstance(error, StoreError):
            raise UserError(f"--storage {error}") from None
        raise


def write_resolved(folder: Path, document: dict[str, Any]) -> None:
    """Write the space that the run uses: ``--set`` applied, paths absolute."""
    with atomic_write(folder / RESOLVED) as file:
        file.write(yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode())


def existing_run(folder: Path) -> Path:
    """Return ``folder`` as an absolute path. Raises UserError if it is not a run."""
    if not (folder / RESOLVED).is_file():
        raise UserError(f"{folder}: not the folder of a run (it has no {RESOLVED})")
    return folder.absolute()


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Lock the run's folder; a second program on it is refused. The lock ends with the process, however that ends.

    The file records the pid and host of the process.
    """
    with open(folder / LOCK, "a+") as file:
        if not _locked(file, fcntl.LOCK_EX):
            raise UserError(f"{folder}: another program is running this sweep")
        with suppress(OSError):  # on a full disk the lock holds without a record: `clean` must be able to free space
            file.truncate(0)
            os.write(file.fileno(), json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
        yield


def _locked(file: IO[str], kind: int) -> bool:
    """Take the lock if it is free; wait briefly for one that ``holder`` takes for a moment."""
    for attempt in range(5):
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.02 * attempt)
    return False


def holder(folder: Path, *, in_store: bool = True) -> dict[str, Any] | None:
    """Return pid and host of the program that runs the sweep in ``folder``; None if none does or it is unrecorded.

    With ``in_store`` it may run elsewhere, if the run is kept in an object store: as of when it was brought here.
    """
    with suppress(FileNotFoundError, json.JSONDecodeError), open(folder / LOCK) as file:
        if not _locked(file, fcntl.LOCK_SH):
            return dict(json.loads(file.read()))
    found = (read_json(folder / MARKER) or {}).get("holder") if in_store else None
    return None if not found or found["until"] < time.time() else {"pid": found["pid"], "host": found["host"]}


def take_stop_request(folder: Path) -> str | None:
    """Return and remove the request that ``st3sweep stop`` left: ``now`` or ``drain``; None if there is none."""
    path = folder / STOP_REQUEST
    try:
        request = path.read_text().strip()
        path.unlink()
    except FileNotFoundError:
        return None
    return request


def free_folder(wanted: Path) -> Path:
    """Return ``wanted``, numbered from 2 if it is taken."""
    names = (wanted.with_name(f"{wanted.name}-{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([wanted], names) if not path.exists())


def trial_folder(run: Path, trial: int) -> Path:
    """Return the folder of trial number ``trial`` of ``run``, with its settings and checkpoints."""
    return run / TRIALS / f"{trial:04d}"


def write_config(folder: Path, spec: dict[str, Any]) -> None:
    """Write the settings of the trial whose folder this is, which is made if it is absent."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(yaml.dump(spec, Dumper=_Dumper, sort_keys=False))
