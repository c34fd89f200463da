"""A run's folder and the files in it that are not tables."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import yaml

from st3sweep.runs.provenance import provenance
from st3sweep.util.errors import UserError
from st3sweep.util.storage.atomic import atomic_write

SPACE, RESOLVED, PROVENANCE = "space.yaml", "resolved.yaml", "provenance.json"
LOCK, STOP_REQUEST = ".lock", "stop.request"


def new_run(default_name: str, document: dict[str, Any], source: Path, storage: Path, name: str | None) -> Path:
    """Make the folder of a new run: the space as given, the same with ``--set`` applied, and the provenance.

    ``document`` is the space as plain data. ``name`` must be free; without one, ``default_name`` is used, numbered from
    2 where it is taken.
    """
    if ":/" in str(storage):  # a Path has folded the second slash
        raise UserError(f"--storage {storage}: must be a folder that every machine of the cluster reaches")
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UserError(f"--name {name}: letters, digits, dot, dash and underscore only")
    base = name or default_name
    number = 1
    while True:
        folder = (storage / (base if number == 1 else f"{base}-{number}")).absolute()
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            if name is not None:
                raise UserError(f"{folder}: exists; resume it with `st3sweep resume`, or choose another name") from None
            number += 1
        except OSError as error:
            raise UserError(f"{folder}: cannot be made ({error.strerror})") from None
    shutil.copyfile(source, folder / SPACE)
    write_resolved(folder, document)
    data: dict[str, Any] = document["trial"].get("data", {})
    facts = json.dumps(provenance(data.get("root")), indent=2, ensure_ascii=False)
    (folder / PROVENANCE).write_text(facts + "\n")
    return folder


def write_resolved(folder: Path, document: dict[str, Any]) -> None:
    """The space as the run goes on with it: ``--set`` applied, paths absolute."""
    with atomic_write(folder / RESOLVED) as file:
        file.write(yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode())


def existing_run(folder: Path) -> Path:
    """``folder``, absolute, if it is that of a run."""
    if not (folder / RESOLVED).is_file():
        raise UserError(f"{folder}: not the folder of a run (it has no {RESOLVED})")
    return folder.absolute()


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the run's folder; a second program on it is refused. The lock goes with the process, however it ends.

    The file says who holds it: pid and host.
    """
    with open(folder / LOCK, "a+") as file:
        if not _locked(file, fcntl.LOCK_EX):
            raise UserError(f"{folder}: another program is running this sweep")
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        file.flush()
        yield


def _locked(file: IO[str], kind: int) -> bool:
    """Take the lock if it is free; one that ``holder`` has for a moment is waited for."""
    for attempt in range(5):
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.02 * attempt)
    return False


def holder(folder: Path) -> dict[str, Any] | None:
    """Who runs the sweep in ``folder``: pid and host; None where nobody does, or has not said yet who it is."""
    try:
        with open(folder / LOCK) as file:
            if _locked(file, fcntl.LOCK_SH):
                return None
            return dict(json.loads(file.read()))
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def ask_to_stop(folder: Path, request: str) -> dict[str, Any]:
    """Leave a ``request`` (``now`` or ``drain``) for the program on the run; returns who that is.

    Raises UserError where none is.
    """
    who = holder(folder)
    if who is None:
        raise UserError(f"{folder}: nobody is running this sweep")
    with atomic_write(folder / STOP_REQUEST) as file:
        file.write(request.encode())
    return who


def take_stop_request(folder: Path) -> str | None:
    """What ``st3sweep stop`` asked the program on this run to do, once: ``now`` or ``drain``; None for nothing."""
    path = folder / STOP_REQUEST
    try:
        request = path.read_text().strip()
        path.unlink()
    except FileNotFoundError:
        return None
    return request


def free_folder(wanted: Path) -> Path:
    """``wanted``, numbered from 2 where it is taken."""
    names = (wanted.with_name(f"{wanted.name}-{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([wanted], names) if not path.exists())


def trial_folder(run: Path, trial: int) -> Path:
    """Where trial number ``trial`` of the run in folder ``run`` has its settings and checkpoints."""
    return run / "trials" / f"{trial:04d}"
