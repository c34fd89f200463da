"""Read a pack: every image of a dataset decoded and resized once, in files mapped into memory.

    manifest.json        what the pack is and was made from; written last, so a pack without it is incomplete
    train.pixels         uint8, image after image: (3, S, S) each for squares, (H, W, 3) each for photographs
    train.npz            labels (N,), bad (B,), and for photographs index (N, 3): offset in bytes, height, width;
                         for squares sums (N, 2, 3): of the pixels and of their squares, per channel
    test.pixels, test.npz if there is a test set

All processes of a machine that map a file share one copy of it, the system's page cache. ``bad`` lists the unreadable
images: black among squares, of height 0 among photographs.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from st3sweep.data.decode import short_side
from st3sweep.data.pack.manifest import again, check_files, digests, read_manifest
from st3sweep.data.pack.place import Place
from st3sweep.data.pack.staging import PackChanged, Say, silent, staged
from st3sweep.data.records import DataError
from st3sweep.trial.data import OnDiskConfig
from st3sweep.util.text import counted


@dataclass(frozen=True)
class PackedSplit:
    """One official split; ``pixels`` is mapped, (N, 3, S, S) for squares and flat for photographs.

    It is empty where the pack lies in an object store, and was opened without a copy to count its images.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    bad: dict[int, str]  # index -> why it cannot be read
    index: NDArray[np.int64] | None  # (N, 3), photographs only
    sums: NDArray[np.int64] | None  # (N, 2, 3), squares only


@dataclass(frozen=True)
class Pack:
    """The official splits of the dataset, before validation images are split off."""

    classes: int
    train: PackedSplit
    test: PackedSplit | None


def open_pack(spec: OnDiskConfig, stage: Path | None = None, say: Say = silent) -> Pack:
    """Open the pack ``data.pack``. Raises DataError if it is incomplete or was made from other files or settings.

    If the folder ``data.root`` does not exist, its files are not compared: the pack may have been copied alone.
    With the folder ``stage`` its copy there is mapped, made if need be (``staging.staged``).
    """
    place = Place(spec.pack or "")
    manifest = read_manifest(place)
    _check_settings(manifest, spec, place)
    root = Path(spec.root)
    if root.is_dir() and fingerprint(root, spec.files()) != manifest["source"]:
        raise DataError("data.pack", f"{place} is stale: files under {root} have changed since; {again(place)}")
    check_files(place, manifest)
    if stage is not None:
        try:
            place = Place(str(staged(place, manifest, stage, say)))
        except PackChanged:
            return open_pack(spec, stage, say)
    splits = {name: _split(place, name, manifest) for name in manifest["splits"]}
    for split in splits.values():
        if split.bad and spec.bad_images == "error":
            first = next(iter(split.bad.values()))
            count = f"{counted(len(split.bad), 'bad image')}, the first: {first}"
            raise DataError("data.pack", f"{spec.pack} leaves out {count}; data.bad_images=skip allows it")
    return Pack(manifest["classes"], splits["train"], splits.get("test"))


def fingerprint(root: Path, files: Iterable[str | Path]) -> dict[str, Any]:
    """Hash the names (relative to ``root``), sizes and modification times of ``files``, to detect changes."""
    digest, count = hashlib.sha256(), 0
    for path in sorted(map(str, files)):
        facts = os.stat(path)
        name = os.fsencode(os.path.relpath(path, root))  # which may be of another encoding than UTF-8
        digest.update(name + f"\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
        count += 1
    return {"files": count, "sha256": digest.hexdigest()}


def kind(spec: OnDiskConfig) -> str:
    """Return how images are stored: "squares", resized to one size, or "photographs", cropped when fetched."""
    return "photographs" if spec.photographs else "squares"


def _check_settings(manifest: dict[str, Any], spec: OnDiskConfig, place: Place) -> None:
    if manifest["dataset"] != spec.dataset:
        raise DataError("data.pack", f"{place} is a pack of {manifest['dataset']}, not of {spec.dataset}")
    size, asked = manifest["size"], spec.image_size
    if kind(spec) == "squares" and size != asked:
        raise DataError("data.pack", f"{place} holds images of {size} pixels; data.image_size is {asked}")
    if kind(spec) == "photographs" and size < short_side(asked):
        message = f"{place} has shorter sides of {size} pixels; data.image_size {asked} needs {short_side(asked)}"
        raise DataError("data.pack", message)


def _split(place: Place, name: str, manifest: dict[str, Any]) -> PackedSplit:
    table = f"{name}.npz"
    content = place.read(table)
    if hashlib.sha256(content).hexdigest() != digests(manifest)[table]:
        raise DataError("data.pack", f"{place}/{table} is corrupt: its SHA-256 differs; {again(place)}")
    pixels: NDArray[np.uint8] = np.zeros(0, np.uint8)
    if place.folder is not None:
        pixels = np.memmap(place.folder / f"{name}.pixels", np.uint8, mode="r")
    with np.load(io.BytesIO(content)) as arrays:
        index, sums = arrays.get("index"), arrays.get("sums")
        labels, bad_ids = arrays["labels"], arrays["bad"].tolist()
    if index is None:
        pixels = pixels.reshape(-1, 3, manifest["size"], manifest["size"])
    return PackedSplit(pixels, labels, dict(zip(bad_ids, manifest["splits"][name]["bad"], strict=True)), index, sums)
