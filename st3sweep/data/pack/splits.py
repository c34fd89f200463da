"""Load the splits of a dataset from its pack: the same images in the same order as without one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from st3sweep.data import normalisation
from st3sweep.data.bad_images import good
from st3sweep.data.pack.reading import Pack, PackedSplit
from st3sweep.data.records import DataInfo, Splits
from st3sweep.data.split import parts, shuffled
from st3sweep.trial.data import OnDiskConfig, ResizedCropAndFlip

if TYPE_CHECKING:  # counting images must not import torch
    from st3sweep.data.images import Images


class _Ids(NamedTuple):
    """Ids of the readable images of each split; ``test`` is empty if there is no test set."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def inspect(spec: OnDiskConfig, pack: Pack) -> DataInfo:
    """Count the images that ``load`` returns, without torch."""
    train, validation, test = map(len, _ids(spec, pack, silent=True))
    return DataInfo(pack.classes, spec.channels, spec.image_size, train, validation, test)


def load(spec: OnDiskConfig, pack: Pack) -> Splits:
    """Return the splits with the pack's pixels mapped; only its index is read."""
    ids = _ids(spec, pack, silent=False)
    return Splits(
        _images(spec, pack.train, ids.train),
        _images(spec, pack.train, ids.validation),
        _images(spec, pack.test, ids.test) if pack.test else None,
        pack.classes,
        *_mean_and_std(spec, pack.train, ids.train),
    )


def _ids(spec: OnDiskConfig, pack: Pack, *, silent: bool) -> _Ids:
    images = len(pack.train.labels)
    train, validation = parts(spec, np.arange(images) if spec.ordered else shuffled(images))
    test = np.arange(len(pack.test.labels) if pack.test else 0)
    return _Ids(
        good(train, pack.train.bad, "training", silent=silent),
        good(validation, pack.train.bad, "validation", silent=silent),
        good(test, pack.test.bad if pack.test else {}, "test", silent=silent),
    )


def _images(spec: OnDiskConfig, split: PackedSplit, ids: NDArray[np.int64]) -> Images:
    from st3sweep.data.images import ArrayImages
    from st3sweep.data.pack.images import PackedImages

    if isinstance(spec.augment, ResizedCropAndFlip):  # photographs
        return PackedImages(split, ids, spec.image_size, spec.augment.min_scale)
    return ArrayImages(split.pixels, split.labels[ids], ids, rows=ids)


def _mean_and_std(
    spec: OnDiskConfig, split: PackedSplit, train: NDArray[np.int64]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if spec.dataset in normalisation.KNOWN:
        return normalisation.KNOWN[spec.dataset]
    assert split.sums is not None, "photographs have known ones"
    return normalisation.from_sums(split.sums[train], spec.image_size**2)
