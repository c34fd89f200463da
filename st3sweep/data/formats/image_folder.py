"""Load photographs from folders ``train/<class>/...``, as ImageNet is laid out, or from Parquet files.

``test/`` is the test set, or ``val/`` where there is no ``test/`` (ImageNet's official validation images). Validation
images come from train.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from st3sweep.data import decode
from st3sweep.data.bad_images import good
from st3sweep.data.formats import image_parquet, parquet
from st3sweep.data.normalisation import KNOWN
from st3sweep.data.pack.sources import Source, Sources
from st3sweep.data.records import DataError, DataInfo, Splits
from st3sweep.data.roots import existing_root
from st3sweep.data.split import parts, shuffled, sizes
from st3sweep.data.threads import in_order
from st3sweep.trial.data import OnDiskConfig, ResizedCropAndFlip, register_dataset

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm")


@dataclass(frozen=True)
class _Files:
    """Image files sorted by class, then by path; paths are strings, since a Path takes more memory."""

    paths: list[str]
    labels: NDArray[np.int64]


@register_dataset
class ImageFolderConfig(OnDiskConfig):
    """Photographs: folders ``train/<class>/*.jpg`` and ``val/`` or ``test/`` for the test set, or Parquet files."""

    photographs: ClassVar[bool] = True
    recipe_size: ClassVar[Literal["small", "large"]] = "large"

    dataset: Literal["image_folder", "imagenet"]
    image_size: int = Field(224, ge=32)
    augment: ResizedCropAndFlip = ResizedCropAndFlip()

    @property
    def place(self) -> str:
        return "" if self.dataset == "imagenet" else super().place

    @property
    def known_classes(self) -> int | None:
        return 1000 if self.dataset == "imagenet" else None

    def inspect(self) -> DataInfo:
        """Count the files without opening them."""
        _check_folders(self.root)
        classes, training, test = _find(self.root)
        train, validation = sizes(self, len(training.paths))
        return DataInfo(len(classes), 3, self.image_size, train, validation, len(test.paths) if test else 0)

    def load(self) -> Splits:
        """List the files of each split; they are decoded when fetched. A fixed permutation chooses the validation set.

        With ``bad_images: skip`` every file is decoded once here to find the bad ones.
        """
        from st3sweep.data.images import FileImages

        _check_folders(self.root)
        classes, training, test = _find(self.root)

        def chosen(files: _Files, ids: NDArray[np.int64], name: str) -> FileImages:
            if self.bad_images == "skip":
                ids = good(ids, _bad(files, ids), name)
            paths = [files.paths[index] for index in ids]
            return FileImages(paths, files.labels[ids], ids, self.image_size, self.augment.min_scale)

        train, validation = parts(self, shuffled(len(training.paths)))
        return Splits(
            chosen(training, train, "training"),
            chosen(training, validation, "validation"),
            chosen(test, np.arange(len(test.paths)), "test") if test else None,
            len(classes),
            *KNOWN[self.dataset],
        )

    def sources(self, short_side: int) -> Sources:
        """Return all photographs, their shorter sides resized to ``short_side``."""
        if _in_parquet(self.root):
            rows, test_rows, count = image_parquet.rows(self.root)

            def make(data: bytes, what: str) -> NDArray[np.uint8]:
                return decode.shrunk(what, data, short_side)

            return Sources(count, None, rows.source(make), test_rows.source(make) if test_rows else None)
        classes, training, test = _find(self.root)

        def source(files: _Files) -> Source:
            return Source(
                files.labels, lambda: (partial(decode.shrunk, path, None, short_side) for path in files.paths)
            )

        return Sources(len(classes), None, source(training), source(test) if test else None)

    def files(self) -> list[str] | list[Path]:
        """Return the files that hold the photographs."""
        if _in_parquet(self.root):
            return image_parquet.files_in(self.root)
        _, training, test = _find(self.root)
        return [*training.paths, *(test.paths if test else [])]


def _in_parquet(root_name: str) -> bool:
    """Whether the training images are in Parquet files, and not in class folders."""
    root = existing_root(root_name)
    return not ((root / "train").is_dir() and _class_names(root / "train")) and bool(parquet.find(root, "train"))


def _check_folders(root_name: str) -> None:
    if _in_parquet(root_name):  # an epoch reads images in random order, which Parquet is not made for
        raise DataError(
            "data.pack",
            f"is needed: {root_name} holds photographs in Parquet files, which are read from a pack; make one with: "
            "st3sweep data pack FILE --out FOLDER",
        )


def _bad(files: _Files, ids: NDArray[np.int64]) -> dict[int, str]:
    """Find the files among ``ids`` that do not decode: id -> why."""
    bad: dict[int, str] = {}
    checks = ((id_, partial(decode.check, files.paths[id_])) for id_ in ids.tolist())
    for _ in in_order(partial(decode.noting, bad, id_, check) for id_, check in checks):
        pass
    return bad


def _find(root_name: str) -> tuple[list[str], _Files, _Files | None]:
    """Find the class names, the training files and the test files. Raises DataError."""
    root = existing_root(root_name)
    if not (root / "train").is_dir():
        raise DataError(
            "data.root",
            f"no images in {root}: looked for train/<class>/ with {_suffixes()} (and test/ or val/ for the test set)",
        )
    classes = _class_names(root / "train")
    if len(classes) < 2:
        raise DataError("data.root", f"{root / 'train'} has {len(classes)} class folders; at least 2 are needed")
    training = _files(root / "train", classes)
    counts = np.bincount(training.labels, minlength=len(classes))
    if counts.min() == 0:
        empty = root / "train" / classes[int(counts.argmin())]
        raise DataError("data.root", f"no images in {empty}: looked for {_suffixes()}")
    return classes, training, _test_files(root, classes)


def _test_files(root: Path, classes: list[str]) -> _Files | None:
    folder = next((root / name for name in ("test", "val") if (root / name).is_dir()), None)
    if folder is None:
        return None
    unknown = sorted(set(_class_names(folder)) - set(classes))
    if unknown:
        raise DataError("data.root", f"{folder / unknown[0]} is a class that {root / 'train'} does not have")
    files = _files(folder, classes)
    if not files.paths:
        raise DataError("data.root", f"no images in {folder}: looked for {folder.name}/<class>/ with {_suffixes()}")
    return files


def _class_names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _files(folder: Path, classes: list[str]) -> _Files:
    """List all images under ``folder/<class>``, at any depth, without files whose names start with a dot."""
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(
            os.path.join(place, file)
            for place, _, files in os.walk(folder / name)
            for file in files
            if file.lower().endswith(SUFFIXES) and not file.startswith(".")
        )
        paths.extend(found)
        labels.extend([label] * len(found))
    return _Files(paths, np.array(labels, dtype=np.int64))


def _suffixes() -> str:
    return ", ".join(f"*{suffix}" for suffix in SUFFIXES)
