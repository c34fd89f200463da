"""Write a pack: decode in threads, write in order, each file under a temporary name first, the manifest last."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from st3sweep.data.bad_images import good
from st3sweep.data.decode import noting
from st3sweep.data.normalisation import channel_sums
from st3sweep.data.pack.manifest import FORMAT, MANIFEST
from st3sweep.data.pack.reading import fingerprint, kind
from st3sweep.data.pack.sources import Make, Source, Sources
from st3sweep.data.records import DataError
from st3sweep.data.threads import in_order
from st3sweep.trial.data import OnDiskConfig
from st3sweep.util.storage.atomic import temporary
from st3sweep.util.storage.interface import Storage
from st3sweep.util.storage.local import Local

_LOCK = ".lock"
_FILES = (MANIFEST, *(f"{split}.{end}" for split in ("train", "test") for end in ("pixels", "npz")))
_OURS = (_LOCK, *_FILES, *(temporary(Path(name)).name for name in _FILES))


def write_pack(
    spec: OnDiskConfig,
    sources: Sources,
    folder: Path,
    short: int,
    advance: Callable[[int, int], None],
) -> int:
    """Make the pack of ``sources`` in ``folder``; return the number of skipped images.

    ``short`` is the shorter side of its photographs. ``advance(done, of)`` is called after each image. A pack in
    ``folder`` is replaced. Raises DataError naming an unreadable image, unless they are skipped.
    """
    # Before the images are read: files that change meanwhile make the pack stale.
    source = fingerprint(Path(spec.root), spec.files())
    splits = {"train": sources.train, **({"test": sources.test} if sources.test else {})}
    total = sum(len(split.labels) for split in splits.values())
    done = iter(range(1, total + 1))
    with _alone(folder):
        files = Local(folder)
        files.remove(MANIFEST)
        facts = {
            name: _write_split(files, name, split, sources.square, spec.bad_images, lambda: advance(next(done), total))
            for name, split in splits.items()
        }
        size = spec.image_size if kind(spec) == "squares" else short
        manifest = {"format": FORMAT, "dataset": spec.dataset, "size": size, "classes": sources.classes}
        with files.put(MANIFEST) as file:
            file.write(json.dumps({**manifest, "source": source, "splits": facts}, indent=2).encode())
    return sum(len(fact["bad"]) for fact in facts.values())


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make ``folder`` and lock it. Raises DataError if it holds other files, or another process is packing there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        strange = [path.name for path in folder.iterdir() if path.name not in _OURS]
        if strange:
            raise DataError("data.pack", f"{folder} holds files that are not of a pack, e.g. {min(strange)}")
        with (folder / _LOCK).open("w") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DataError("data.pack", f"another process is packing into {folder}") from None
            yield
            (folder / _LOCK).unlink(missing_ok=True)
    except OSError as error:
        raise DataError("data.pack", f"cannot write the pack in {folder}: {error}") from error


def _write_split(
    files: Storage, name: str, source: Source, square: int | None, bad_images: str, advance: Callable[[], None]
) -> dict[str, Any]:
    """Write one split; return its part of the manifest."""
    bad: dict[int, str] = {}
    noted = bad if bad_images == "skip" else None

    def one(id_: int, make: Make) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        made = noting(noted, id_, make)
        image = np.ascontiguousarray(_nothing(square) if made is None else made)
        return image, np.array(image.shape[:2]) if square is None else channel_sums(image[None])[0]

    rows: list[NDArray[np.int64]] = []
    offset, digest = 0, hashlib.sha256()
    with files.put(f"{name}.pixels") as file:
        for image, facts in in_order(partial(one, id_, make) for id_, make in enumerate(source.makes())):
            file.write(image.data)
            digest.update(image.data)
            rows.append(np.array([offset, *facts]) if square is None else facts)
            offset += image.size
            advance()
    assert len(rows) == len(source.labels), "a source makes one image for each label"
    good(np.arange(len(rows)), bad, name, silent=True)
    ids = np.array(sorted(bad), dtype=np.int64)
    key = "index" if square is None else "sums"
    arrays: dict[str, Any] = {"labels": source.labels, "bad": ids, key: np.stack(rows)}
    with files.put(f"{name}.npz") as file:
        np.savez(file, **arrays)
    with files.open(f"{name}.npz") as written:
        arrays_sha256 = hashlib.file_digest(written, "sha256").hexdigest()  # type: ignore[arg-type]
        arrays_size = written.tell()
    return {
        "bytes": {f"{name}.pixels": offset, f"{name}.npz": arrays_size},
        "sha256": arrays_sha256,
        "pixels_sha256": digest.hexdigest(),
        "bad": [bad[i] for i in ids.tolist()],
    }


def _nothing(square: int | None) -> NDArray[np.uint8]:
    return np.zeros((0, 0, 3) if square is None else (3, square, square), dtype=np.uint8)
