"""Cache decoded datasets in files that all processes of a machine map: the first one decodes, the others wait for it.

    <cache>/<key>/
        .lock                       held while the files are made
        train.pixels.npy, ...       of each split ``pixels`` (N, C, H, W) uint8, ``labels`` and ``ids`` (N,) int64
        splits.json                 the rest; written last, so a folder without it is incomplete

``key`` is a hash of what decides the images: the settings that choose them, and names, sizes and times of their files.
Any change there makes a new entry; an entry not opened for 30 days is removed when another one is made.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL

from st3sweep.data.pack.reading import fingerprint
from st3sweep.data.records import DataError, Splits
from st3sweep.trial.data import OnDiskConfig
from st3sweep.util.cache import cache_folder
from st3sweep.util.errors import UserError
from st3sweep.util.storage.atomic import atomic_write

if TYPE_CHECKING:  # counting images must not import torch
    from st3sweep.data.images import ArrayImages

FORMAT = 2  # version of the files and of the decoding: raise it when either changes
FACTS = "splits.json"
_LOCK = ".lock"
_ARRAYS = ("pixels", "labels", "ids")
_NO_PIXELS = {"augment", "download", "pack", "root"}  # settings that change no pixels; the key has the absolute root
_KEPT_SECONDS = 30 * 24 * 3600
_KEY = f"*-{'[0-9a-f]' * 32}"  # glob of ``_key``: nothing else in the folder is touched


def check_setting() -> None:
    """Raise DataError if ``ST3SWEEP_CACHE`` is a relative path."""
    with suppress(FileNotFoundError):  # no home folder: ``load_once`` does without the cache
        try:
            cache_folder()
        except UserError as error:
            raise DataError("data", str(error)) from None


def load_once(spec: OnDiskConfig) -> Splits:
    """Return ``spec.load()`` with its arrays mapped read-only; it is called only if the cache has no entry.

    If the cache cannot be written, warns and keeps the images in memory. Raises what ``spec.load`` raises, and then
    caches nothing.
    """
    check_setting()
    with ExitStack() as until_made:
        try:
            folder = cache_folder() / _key(spec)
            if found := _opened(folder):
                return found
            until_made.enter_context(_alone(folder))
        except OSError as error:
            _warn_unshared(error)
            return spec.load()  # type: ignore[no-any-return]
        return _opened(folder) or _made(folder, spec.load)  # another process may have made it while this one waited


def _made(folder: Path, load: Callable[[], Splits]) -> Splits:
    """Load, write the entry ``folder``, and map it. The caller holds the entry's lock."""
    try:
        splits, notes = _noting_warnings(load)
    except BaseException:
        _remove(folder)
        raise
    try:
        _remove_unused(folder.parent)
        _write(folder, splits, notes)
    except OSError as error:  # perhaps a full disk: leave nothing on it
        _remove(folder)
        _warn_unshared(error)
        return splits
    return _opened(folder, silent=True) or splits


def _key(spec: OnDiskConfig) -> str:
    facts = {
        "format": FORMAT,
        "pillow": PIL.__version__,  # its decoders may differ in the last bit
        "root": os.path.abspath(spec.root),
        "source": fingerprint(Path(spec.root), spec.files()),
        "data": spec.model_dump(mode="json", exclude=_NO_PIXELS),
    }
    return f"{spec.dataset}-{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]}"


def _opened(folder: Path, *, silent: bool = False) -> Splits | None:
    """Open the entry, None if it is incomplete; unless ``silent``, repeat the warnings of when it was made."""
    try:
        facts = json.loads((folder / FACTS).read_text())
        splits = {name: _mapped(folder, name) for name in facts["splits"]}
        found = Splits(
            splits["train"], splits["validation"], splits.get("test"),
            facts["classes"], tuple(facts["mean"]), tuple(facts["std"]),
        )  # fmt: skip
        notes = [] if silent else facts["warnings"]
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None
    for note in notes:
        warnings.warn(note, RuntimeWarning, stacklevel=3)
    with suppress(OSError):  # the entry may belong to another user
        os.utime(folder)
    return found


def _mapped(folder: Path, name: str) -> ArrayImages:
    from st3sweep.data.images import ArrayImages

    return ArrayImages(*(np.load(folder / f"{name}.{array}.npy", mmap_mode="r") for array in _ARRAYS))


def _write(folder: Path, splits: Splits, notes: list[str]) -> None:
    parts: dict[str, Any] = {"train": splits.train, "validation": splits.validation}
    if splits.test is not None:
        parts["test"] = splits.test
    for name, images in parts.items():
        for array, values in zip(_ARRAYS, (images.pixels, images.labels, images.sample_ids), strict=True):
            with atomic_write(folder / f"{name}.{array}.npy") as file:
                np.save(file, values.numpy())
    facts = {"classes": splits.num_classes, "mean": splits.mean, "std": splits.std}
    with atomic_write(folder / FACTS) as file:
        file.write(json.dumps({**facts, "splits": list(parts), "warnings": notes}).encode())


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make ``folder`` and hold its lock; blocks while another process holds it."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _LOCK).open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            if _is_at(held.fileno(), folder / _LOCK):  # else it was removed meanwhile: lock its successor
                yield
                return


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _noting_warnings(load: Callable[[], Splits]) -> tuple[Splits, list[str]]:
    """Return ``load()`` and its warnings, which later processes repeat: they name the skipped images."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        splits = load()
    for warning in caught:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return splits, [str(warning.message) for warning in caught if issubclass(warning.category, RuntimeWarning)]


def _remove_unused(cache: Path) -> None:
    """Remove entries not opened for 30 days, except those being made. Processes that map one keep its pages."""
    for lock in cache.glob(f"{_KEY}/{_LOCK}"):
        with suppress(OSError), lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - lock.parent.stat().st_mtime > _KEPT_SECONDS:
                _remove(lock.parent)


def _remove(folder: Path) -> None:
    """Remove an entry whose lock the caller holds."""
    shutil.rmtree(folder, ignore_errors=True)


def _warn_unshared(error: OSError) -> None:
    message = f"cannot use the data cache: {error}; each process keeps its own copy of the data; see ST3SWEEP_CACHE"
    warnings.warn(message, RuntimeWarning, stacklevel=4)
