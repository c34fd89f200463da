"""Stage a pack: copy it once per host, from the storage that all hosts share to a folder on local disk.

The environment variable ``ST3SWEEP_STAGE`` names the folder; without it a pack is mapped where it lies.

    packs.lock           held by the process that copies; the others of the host wait, then map its copy
    pack-<key>.part/     a copy being made, or what a killed process left of one; the next to copy removes it
    pack-<key>/          a complete copy, renamed when it is: a pack, and in ``staged.json`` what it is a copy of

``key`` is a hash of the pack's content, so a copy serves every later trial and run until the pack changes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from st3sweep.data.pack.manifest import MANIFEST, again, digests, file_digest, read_manifest, sizes
from st3sweep.data.pack.place import Place, blocks
from st3sweep.util.errors import UserError
from st3sweep.util.storage.urls import url_of
from st3sweep.util.text import format_bytes

VARIABLE = "ST3SWEEP_STAGE"
FACTS = "staged.json"
SAY_SECONDS = 15.0  # between two lines of progress
_POLL_SECONDS = 0.5
_COPY = re.compile(r"pack-[0-9a-f]{32}(\.part)?")  # nothing else in the folder is touched

Say = Callable[[str], None]  # is told a line of progress now and then


def silent(line: str) -> None:
    """Say nothing."""


class StagingError(UserError):
    """A pack cannot be staged on this machine: a matter of the machine, not of the trial."""

    def __str__(self) -> str:
        return f"{VARIABLE}: {super().__str__()}"


class PackChanged(Exception):
    """The pack was made again while it was read: read it anew."""


def stage_folder() -> Path | None:
    """Return the folder that ``ST3SWEEP_STAGE`` names, None if it is not set. Raises StagingError if it is relative."""
    chosen = os.path.expanduser(os.environ.get(VARIABLE, ""))
    if chosen and not os.path.isabs(chosen):  # each worker runs in a folder of its own
        raise StagingError(f"must be an absolute path (got {chosen!r})")
    return Path(chosen) if chosen else None


def folder_for(pack: str) -> Path | None:
    """Return where to copy the pack, None to map it where it lies. Raises StagingError where it must be copied."""
    stage = stage_folder()
    if stage is None and url_of(pack):
        raise StagingError(
            f"must name a folder on local disk: {pack} is in an object store, and cannot be mapped there"
        )
    return stage


def staged(place: Place, manifest: dict[str, Any], stage: Path, say: Say) -> Path:
    """Return the complete copy of the pack ``place`` in ``stage``, which the first process of the host makes.

    Raises StagingError where it cannot be made, PackChanged if the pack does not have this ``manifest`` any more.
    """
    copy = copy_of(place, manifest, stage)
    if is_complete(copy, manifest):
        return copy
    try:
        stage.mkdir(exist_ok=True)  # not its parents: where a disk is not mounted, the system's would fill
        with _alone(stage, f"waiting for another process of this host, which copies a pack to {stage}", say):
            if not is_complete(copy, manifest):
                _check_unchanged(place, manifest)
                if copy.exists():
                    say(f"the copy {copy} is damaged: copying it again")
                _make(copy, place, manifest, say)
    except OSError as error:
        raise StagingError(f"cannot copy {place} to {stage}: {error.strerror or error}") from error
    return copy


def described(pack: str) -> str:
    """Say where this machine maps the pack from. Raises StagingError where it cannot be copied."""
    stage, place = folder_for(pack), Place(pack)
    if stage is None:
        return "mapped where it lies"
    manifest = read_manifest(place)
    copy = copy_of(place, manifest, stage)
    if is_complete(copy, manifest):
        return f"mapped from its copy {copy}"
    there = stage if stage.is_dir() else stage.parent
    if not os.access(there, os.W_OK):
        raise StagingError(f"{there} is no folder that can be written")
    free = check_room(place, manifest, there)
    needed = format_bytes(sum(sizes(manifest).values()))
    return f"copied to {stage} once per host: {needed}, with {format_bytes(free)} free on this one"


def copy_of(place: Place, manifest: dict[str, Any], stage: Path) -> Path:
    """Return where in ``stage`` the copy of the pack ``place`` is, or will be."""
    facts: list[Any] = [manifest]
    for name, digest in digests(manifest).items():
        if digest is None:  # the manifest of an older pack does not tell its pixels from others
            if place.folder is None:
                raise StagingError(f"{place} has no checksum of its pixels; {again(place)}")
            facts.append((place.folder / name).stat().st_mtime_ns)
    return stage / f"pack-{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]}"


def is_complete(copy: Path, manifest: dict[str, Any]) -> bool:
    """Return whether ``copy`` is there, its files as they were written. Pixels are not read, for it would take minutes.

    Their size and time are compared instead: what writes to a file changes its time.
    """
    try:
        written = json.loads((copy / FACTS).read_text())["files"]
        return all(_stamp(copy / name) == stamp for name, stamp in written.items()) and all(
            file_digest(copy / name) == digest for name, digest in digests(manifest).items() if name.endswith(".npz")
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def check_room(place: Place, manifest: dict[str, Any], stage: Path) -> int:
    """Return the bytes free in ``stage``. Raises StagingError if a copy of the pack ``place`` needs more."""
    needed, free = sum(sizes(manifest).values()), shutil.disk_usage(stage).free
    if needed > free:
        others = sum(file.stat().st_size for copy in _copies(stage) for file in copy.iterdir())
        hint = f"; copies of other packs there take {format_bytes(others)}" if others else ""
        raise StagingError(
            f"{stage} has {format_bytes(free)} free, the copy of {place} needs {format_bytes(needed)}{hint}"
        )
    return free


def _make(copy: Path, place: Place, manifest: dict[str, Any], say: Say) -> None:
    """Copy the pack ``place`` to ``copy`` and check the copy. The caller holds the lock of the folder."""
    stage, part = copy.parent, copy.with_name(f"{copy.name}.part")
    for other in _copies(stage):
        if other.suffix == ".part" or other == copy or _origin(other) == str(place):
            shutil.rmtree(other, ignore_errors=True)  # trials that have mapped it keep its pages
    check_room(place, manifest, stage)
    total = sum(sizes(manifest).values())
    began, done = time.monotonic(), _Progress(say, f"copying {place} to {stage}", total)
    part.mkdir()
    try:
        read = {name: _copy(place.blocks(name, size), part / name, done) for name, size in sizes(manifest).items()}
        (part / MANIFEST).write_text(json.dumps(manifest, indent=2))
        _check_unchanged(place, manifest)
        for name, digest in digests(manifest).items():
            if digest not in (None, read[name]) or (part / name).stat().st_size != sizes(manifest)[name]:
                raise StagingError(f"{place}/{name} is corrupt, or was not read as it is: its SHA-256 differs")
            if _digest(blocks(part / name), done) != read[name]:
                raise StagingError(f"{part / name} is not what was written to it: is the disk broken?")
        stamps = {name: _stamp(part / name) for name in (MANIFEST, *read)}
        (part / FACTS).write_text(json.dumps({"from": str(place), "files": stamps}))
        part.rename(copy)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    say(f"copied {place} to {copy}: {format_bytes(total)} in {time.monotonic() - began:.1f} s")


class _Progress:
    """Says what part of ``total`` bytes is copied and read back, at once and then every SAY_SECONDS."""

    def __init__(self, say: Say, what: str, total: int):
        self._say, self._what, self._total = say, what, total
        self._done, self._next = 0, 0.0

    def __call__(self, count: int) -> None:
        self._done += count
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + SAY_SECONDS
            share = self._done / (2 * self._total)
            self._say(f"{self._what}: {share:.0%} of {format_bytes(self._total)} copied and checked")


def _copy(source: Iterable[memoryview], target: Path, done: Callable[[int], None]) -> str:
    """Write ``source`` to a file; return the SHA-256 of what was read."""
    with open(target, "wb") as file:
        digest = _digest(source, done, file.write)
        file.flush()
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):  # what is read back then comes from the disk
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return digest


def _digest(source: Iterable[memoryview], done: Callable[[int], None], write: Callable[[memoryview], Any] = len) -> str:
    """Return the SHA-256 of ``source``; ``write`` gets its blocks, and ``done`` the number of bytes of each."""
    digest = hashlib.sha256()
    for block in source:
        digest.update(block)
        write(block)
        done(len(block))
    return digest.hexdigest()


@contextmanager
def _alone(stage: Path, waits: str, say: Say) -> Iterator[None]:
    """Hold the lock of the folder; ``say`` that this process ``waits`` while another one holds it.

    Asks for the lock again and again, so that a limit on silence (``resources.hang_limit``) hears of those who wait.
    """
    with open(stage / "packs.lock", "a") as held:
        heard = 0.0
        while not _lock(held):
            if time.monotonic() >= heard:
                heard = time.monotonic() + SAY_SECONDS
                say(waits)
            time.sleep(_POLL_SECONDS)
        yield


def _lock(file: Any) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _copies(stage: Path) -> list[Path]:
    return [path for path in stage.iterdir() if _COPY.fullmatch(path.name)]


def _origin(copy: Path) -> str | None:
    """Return the folder of the pack that ``copy`` was made from; None where it does not say."""
    try:
        return str(json.loads((copy / FACTS).read_text())["from"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check_unchanged(place: Place, manifest: dict[str, Any]) -> None:
    """Packing again removes the manifest before it changes a file, and writes a new one at its end."""
    if read_manifest(place) != manifest:
        raise PackChanged


def _stamp(path: Path) -> list[int]:
    """Return size and time of a file."""
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns]
