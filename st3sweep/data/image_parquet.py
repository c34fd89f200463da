"""Any classification set in Parquet files: those named train, and for the test set those named test, or else val."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from st3sweep.data import decode
from st3sweep.data.normalisation import mean_and_std
from st3sweep.data.parquet import ParquetImages, find, open_files, unlabelled
from st3sweep.data.records import DataError, DataInfo, Splits
from st3sweep.data.roots import existing_root
from st3sweep.data.sources import Sources
from st3sweep.data.split import parts, shuffled, sizes
from st3sweep.spec import ImageFolder, ImageParquet

_LABEL = ("label",)
_MOST_BYTES = 4 * 2**30  # of pixels that are held in memory


def inspect(spec: ImageParquet) -> DataInfo:
    """Counts rows and classes; decodes nothing."""
    training, test, classes = rows(spec.root)
    _check_memory(spec, training, test)
    train, validation = sizes(spec, len(training.labels))
    return DataInfo(classes, 3, spec.image_size, train, validation, len(test.labels) if test else 0)


def load(spec: ImageParquet) -> Splits:
    """Decodes the images that are needed, as RGB. A fixed permutation decides which ones validate."""
    from st3sweep.data.images import ArrayImages

    training, test, classes = rows(spec.root)
    _check_memory(spec, training, test)

    def chosen(images: ParquetImages, ids: NDArray[np.int64], name: str) -> ArrayImages:
        skip = spec.bad_images == "skip"
        pixels, ids = images.readable(ids, spec.image_size, name, resize=True, skip=skip)
        return ArrayImages(pixels, images.labels[ids], ids)

    train, validation = parts(spec, shuffled(len(training.labels)))
    train_images = chosen(training, train, "training")
    return Splits(
        train_images,
        chosen(training, validation, "validation"),
        chosen(test, np.arange(len(test.labels)), "test") if test else None,
        classes,
        *mean_and_std(train_images.pixels.numpy()),
    )


def sources(spec: ImageParquet, short: int) -> Sources:  # noqa: ARG001
    """All images, resized to squares."""
    training, test, classes = rows(spec.root)

    def make(data: bytes, what: str) -> NDArray[np.uint8]:
        return decode.square(data, spec.image_size, resize=True, what=what)

    return Sources(classes, spec.image_size, training.source(make), test.source(make) if test else None)


def files(spec: ImageParquet | ImageFolder) -> list[Path]:
    """What the images are read from."""
    root = existing_root(spec.root)
    return [*find(root, "train"), *_test_files(root)]


def _check_memory(spec: ImageParquet, training: ParquetImages, test: ParquetImages | None) -> None:
    images = sum(sizes(spec, len(training.labels))) + (len(test.labels) if test else 0)
    needed = images * 3 * spec.image_size**2
    if needed > _MOST_BYTES:
        raise DataError(
            "data.pack",
            f"is needed: {images:,} images of {spec.image_size} pixels would take {needed / 2**30:.1f} GiB of memory; "
            "make a pack with: st3sweep data pack FILE --out FOLDER",
        )


def rows(root_name: str) -> tuple[ParquetImages, ParquetImages | None, int]:
    """The training rows, the test rows, and the number of classes: one more than the highest training label."""
    root = existing_root(root_name)
    files = find(root, "train")
    if not files:
        raise DataError("data.root", f"no images in {root}: looked for *train*.parquet there and one folder below")
    training = open_files(files, _LABEL)
    if training.labels.min() == training.labels.max():
        raise DataError(
            "data.root", f"all training images in {root} have label {training.labels[0]}; at least 2 classes are needed"
        )
    classes = int(training.labels.max()) + 1
    test_files = _test_files(root)
    test = open_files(test_files, _LABEL) if test_files else None
    if test and test.labels.max() >= classes:
        raise DataError(
            "data.root", f"the test set in {root} has a label {test.labels.max()}; training has 0 to {classes - 1}"
        )
    return training, test, classes


def _test_files(root: Path) -> list[Path]:
    """Those named test; those named val where there are none, or none whose labels are published."""
    test = find(root, "test")
    return test if test and not unlabelled(test[0], _LABEL) else find(root, "val")
