"""Any classification set in Parquet files: those named train, and for the test set those named test, or else val."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from st3sweep.data.normalisation import mean_and_std
from st3sweep.data.parquet import ParquetImages, find, open_files
from st3sweep.data.records import DataError, DataInfo, Splits
from st3sweep.data.roots import existing_root
from st3sweep.data.split import parts, shuffled, sizes
from st3sweep.spec import ImageParquet

_LABEL = ("label",)


def inspect(spec: ImageParquet) -> DataInfo:
    """Counts rows and classes; decodes nothing."""
    training, test, classes = _find(spec.root)
    train, validation = sizes(spec, len(training.labels))
    return DataInfo(classes, 3, spec.image_size, train, validation, len(test.labels) if test else 0)


def load(spec: ImageParquet) -> Splits:
    """Decodes the images that are needed, as RGB. A fixed permutation decides which ones validate."""
    from st3sweep.data.images import ArrayImages

    training, test, classes = _find(spec.root)

    def pixels(images: ParquetImages, ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        return images.pixels(ids, spec.image_size, resize=True)

    train, validation = parts(spec, shuffled(len(training.labels)))
    train_pixels = pixels(training, train)
    mean, std = mean_and_std(train_pixels)
    everything = np.arange(len(test.labels)) if test else None
    return Splits(
        ArrayImages(train_pixels, training.labels[train], train),
        ArrayImages(pixels(training, validation), training.labels[validation], validation),
        ArrayImages(pixels(test, everything), test.labels, everything) if test and everything is not None else None,
        classes,
        mean,
        std,
    )


def _find(root_name: str) -> tuple[ParquetImages, ParquetImages | None, int]:
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
    test_files = find(root, "test") or find(root, "val")
    test = open_files(test_files, _LABEL) if test_files else None
    if test and test.labels.max() >= classes:
        raise DataError(
            "data.root", f"the test set in {root} has a label {test.labels.max()}; training has 0 to {classes - 1}"
        )
    return training, test, classes
