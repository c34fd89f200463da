"""Load photographs from folders ``train/<class>/...``, as ImageNet is laid out, or from Parquet files.

``test/`` is the test set, or ``val/`` where there is no ``test/`` (ImageNet's official validation images). Validation
images come from train.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

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
from st3sweep.trial.fields import fail
from st3sweep.util.text import counted


@dataclass(frozen=True)
class _Files:
    """Image files sorted by class, then by path; paths are strings, since a Path takes more memory.

    ``left_out`` counts the files that are no images, by suffix.
    """

    paths: list[str]
    labels: NDArray[np.int64]
    left_out: Counter[str]


@register_dataset
class ImageFolderConfig(OnDiskConfig):
    """Photographs: folders ``train/<class>/*.jpg`` and ``val/`` or ``test/`` for the test set, or Parquet files."""

    photographs: ClassVar[bool] = True
    recipe_size: ClassVar[Literal["small", "large"]] = "large"

    dataset: Literal["image_folder", "imagenet"]
    image_size: int = Field(224, ge=32)
    augment: ResizedCropAndFlip = ResizedCropAndFlip()
    decoder: Literal["pillow", "nvjpeg"] = "pillow"  # nvjpeg: on the GPU that trains

    @model_validator(mode="after")
    def _decoder_of_files(self) -> ImageFolderConfig:
        if self.decoder != "pillow" and self.pack is not None:
            raise fail("data.decoder", f"{self.decoder} has no effect: data.pack holds decoded images", "data.pack")
        return self

    @property
    def place(self) -> str:
        return "" if self.dataset == "imagenet" else super().place

    @property
    def known_classes(self) -> int | None:
        return 1000 if self.dataset == "imagenet" else None

    @property
    def decoding(self) -> int:
        """Return 2 (16-bit images, links, more suffixes, no hidden folders); ImageNet's files, all JPEG, stay at 1."""
        return 1 if self.dataset == "imagenet" else 2

    def class_names(self) -> tuple[str, ...] | None:
        if _in_parquet(self.root):
            return image_parquet.named_classes(self.root)
        return tuple(_class_names(existing_root(self.root) / "train"))

    def preprocessing(self) -> dict[str, Any]:
        short = decode.short_side(self.image_size)
        return {"channel_order": "RGB", "resize": {"short_side": short}, "centre_crop": self.image_size}

    def split_files(self) -> dict[str, list[str]]:
        if _in_parquet(self.root):
            return {}
        _, training, test = _find(self.root)
        chosen = parts(self, shuffled(len(training.paths)))
        return {
            "training": [training.paths[index] for index in chosen.train],
            "validation": [training.paths[index] for index in chosen.validation],
            "test": list(test.paths) if test else [],
        }

    def inspect(self) -> DataInfo:
        """Count the files without opening them."""
        _check_folders(self.root)
        classes, training, test = _find(self.root)
        train, validation = sizes(self, len(training.paths))
        left_out = training.left_out + (test.left_out if test else Counter())
        counts = (train, validation, len(test.paths) if test else 0)
        return DataInfo(len(classes), 3, self.image_size, *counts, _note(left_out))

    def load(self) -> Splits:
        """List the files of each split; they are decoded when fetched. A fixed permutation chooses the validation set.

        With ``bad_images: skip`` every file is decoded once here to find the bad ones.
        """
        from st3sweep.data.images import FileImages
        from st3sweep.data.nvjpeg import NvjpegImages, check_device

        kind = NvjpegImages if self.decoder == "nvjpeg" else FileImages
        if kind is NvjpegImages:
            check_device()
        _check_folders(self.root)
        classes, training, test = _find(self.root)

        def chosen(files: _Files, ids: NDArray[np.int64], name: str) -> FileImages:
            if self.bad_images == "skip":
                ids = good(ids, _bad(files, ids), name)
            paths = [files.paths[index] for index in ids]
            return kind(paths, files.labels[ids], ids, self.image_size, self.augment.min_scale)

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
            f"no images in {root}: looked for train/<class>/ with images (and test/ or val/ for the test set)",
        )
    classes = _class_names(root / "train")
    if len(classes) < 2:
        raise DataError("data.root", f"{root / 'train'} has {len(classes)} class folders; at least 2 are needed")
    training = _files(root / "train", classes)
    counts = np.bincount(training.labels, minlength=len(classes))
    if counts.min() == 0:
        empty = root / "train" / classes[int(counts.argmin())]
        note = _note(training.left_out)
        raise DataError("data.root", f"no images in {empty}" + (f"; {note}" if note else ""))
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
        raise DataError("data.root", f"no images in {folder}: looked for {folder.name}/<class>/ with images")
    return files


def _class_names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _files(folder: Path, classes: list[str]) -> _Files:
    """List all images under ``folder/<class>``, at any depth, links followed; nothing whose name starts with a dot."""
    paths: list[str] = []
    labels: list[int] = []
    left_out: Counter[str] = Counter()
    for label, name in enumerate(classes):
        found = []
        place = os.path.join(folder, name)
        for path in _below(place, frozenset()) if os.path.isdir(place) else ():  # a class may be absent from the test
            suffix = os.path.splitext(path)[1].lower()
            if suffix in decode.suffixes():
                found.append(path)
            else:
                left_out[suffix] += 1
        paths.extend(sorted(found))
        labels.extend([label] * len(found))
    return _Files(paths, np.array(labels, dtype=np.int64), left_out)


def _below(folder: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
    """Yield the files at any depth below ``folder``; a link to one of the folders ``above`` it is a circle: ends."""
    facts = os.stat(folder)
    here = (facts.st_dev, facts.st_ino)
    if here in above:
        return
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".")]
    for entry in visible:
        if entry.is_dir():
            yield from _below(entry.path, above | {here})
        else:  # a broken link too: decoding it is an error that names it
            yield entry.path


def _note(left_out: Counter[str]) -> str:
    """Say in a line how many files are no images; empty if all are."""
    if not left_out:
        return ""
    kinds = ", ".join(f"{count} {suffix or 'without a suffix'}" for suffix, count in left_out.most_common(5))
    more = f" and {len(left_out) - 5} more kinds" if len(left_out) > 5 else ""
    what = "which is no image" if left_out.total() == 1 else "which are no images"
    return f"{counted(left_out.total(), 'file')} left out, {what}: {kinds}{more}"
