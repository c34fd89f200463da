"""Load any classification dataset from Parquet files named train, and for the test set test, or else val."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from st3sweep.data import decode
from st3sweep.data.formats.parquet import ParquetImages, class_names, find, open_files, unlabelled
from st3sweep.data.normalisation import mean_and_std
from st3sweep.data.pack.sources import Sources
from st3sweep.data.records import DataError, DataInfo, Splits
from st3sweep.data.roots import existing_root
from st3sweep.data.split import parts, shuffled, sizes
from st3sweep.trial.data import OnDiskConfig, ShiftAndFlip, register_dataset

MANY_CLASSES = 1_000
_LABEL = ("label",)
_MOST_BYTES = 4 * 2**30  # of pixels held in memory


@register_dataset
class ImageParquetConfig(OnDiskConfig):
    """Parquet files with columns ``img`` or ``image`` (struct with ``bytes``) and ``label``; resized to a square."""

    dataset: Literal["image_parquet"]
    image_size: int = Field(32, ge=8, le=1024)
    augment: ShiftAndFlip = ShiftAndFlip()

    @property
    def decoding(self) -> int:
        return 2  # 16-bit images

    def class_names(self) -> tuple[str, ...] | None:
        return named_classes(self.root)

    def preprocessing(self) -> dict[str, Any]:
        return {"channel_order": "RGB", "resize": {"square": self.image_size}, "centre_crop": None}

    def files(self) -> list[Path]:
        return files_in(self.root)

    def inspect(self) -> DataInfo:
        """Count rows and classes without decoding."""
        training, test, classes = rows(self.root)
        _check_memory(self, training, test)
        train, validation = sizes(self, len(training.labels))
        return DataInfo(classes, 3, self.image_size, train, validation, len(test.labels) if test else 0)

    def load(self) -> Splits:
        """Decode the images of the three splits as RGB. A fixed permutation chooses the validation set."""
        from st3sweep.data.images import ArrayImages

        training, test, classes = rows(self.root)
        _check_memory(self, training, test)

        def chosen(images: ParquetImages, ids: NDArray[np.int64], name: str) -> ArrayImages:
            skip = self.bad_images == "skip"
            pixels, ids = images.readable(ids, self.image_size, name, resize=True, skip=skip)
            return ArrayImages(pixels, images.labels[ids], ids)

        train, validation = parts(self, shuffled(len(training.labels)))
        train_images = chosen(training, train, "training")
        return Splits(
            train_images,
            chosen(training, validation, "validation"),
            chosen(test, np.arange(len(test.labels)), "test") if test else None,
            classes,
            *mean_and_std(train_images.pixels.numpy()),
        )

    def sources(self, short_side: int) -> Sources:  # noqa: ARG002
        """Return all images, resized to squares."""
        training, test, classes = rows(self.root)

        def make(data: bytes, what: str) -> NDArray[np.uint8]:
            return decode.square(data, self.image_size, resize=True, what=what)

        return Sources(classes, self.image_size, training.source(make), test.source(make) if test else None)


def files_in(root_name: str) -> list[Path]:
    """Return the Parquet files of the images under ``root_name``."""
    root = existing_root(root_name)
    return [*find(root, "train"), *_test_files(root)]


def _check_memory(spec: ImageParquetConfig, training: ParquetImages, test: ParquetImages | None) -> None:
    images = sum(sizes(spec, len(training.labels))) + (len(test.labels) if test else 0)
    needed = images * 3 * spec.image_size**2
    if needed > _MOST_BYTES:
        raise DataError(
            "data.pack",
            f"is needed: {images:,} images of {spec.image_size} pixels would take {needed / 2**30:.1f} GiB of memory; "
            "make a pack with: st3sweep data pack FILE --out FOLDER",
        )


def rows(root_name: str) -> tuple[ParquetImages, ParquetImages | None, int]:
    """Open the training and test rows; the number of classes is one more than the highest training label."""
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
    occurring = len(np.unique(training.labels))
    if classes > MANY_CLASSES and occurring * 10 < classes:  # the classifier would be huge, and nearly all of it unused
        message = f"labels in {root} go up to {classes - 1:,}, but only {occurring:,} occur; number the classes from 0"
        raise DataError("data.root", message)
    test_files = _test_files(root)
    test = open_files(test_files, _LABEL) if test_files else None
    if test and test.labels.max() >= classes:
        raise DataError(
            "data.root", f"the test set in {root} has a label {test.labels.max()}; training has 0 to {classes - 1}"
        )
    return training, test, classes


def named_classes(root_name: str) -> tuple[str, ...] | None:
    """Return the names of the classes under ``root_name``, as the library datasets stores them; None where absent."""
    files = find(existing_root(root_name), "train")
    return class_names(files[0], _LABEL) if files else None


def _test_files(root: Path) -> list[Path]:
    """Return the files named test, or those named val if there are none or their labels are withheld."""
    test = find(root, "test")
    return test if test and not unlabelled(test[0], _LABEL) else find(root, "val")
