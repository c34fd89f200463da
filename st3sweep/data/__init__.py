"""Datasets to batches: ``inspect`` counts without torch, ``load`` gives the splits, ``batches`` iterates over them.

What ``load`` decodes it decodes once for all processes of a machine (``shared.py``); ``make_pack`` for all trials that
name the pack.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from st3sweep.data import cifar, digits, folder, image_parquet, packed, shared
from st3sweep.data.decode import short_side
from st3sweep.data.pack import Pack, Packable, open_pack
from st3sweep.data.pack_writer import write_pack
from st3sweep.data.records import DataError, DataInfo, Splits
from st3sweep.spec import Cifar, DataSpec, Digits, ImageFolder

__all__ = ["DataError", "DataInfo", "Splits", "inspect", "load", "make_pack"]

# Each has ``inspect`` and ``load``; those that can be packed ``sources``, what a pack is made from (photographs with a
# shorter side of so many pixels), and ``files``, which are read for it.
_DATASETS: dict[str, Any] = {
    "digits": digits,
    "cifar10": cifar,
    "cifar100": cifar,
    "image_parquet": image_parquet,
    "image_folder": folder,
    "imagenet": folder,
}


def inspect(spec: DataSpec) -> DataInfo:
    """Counts and shape of the data as ``load`` will give them, or DataError. Decodes nothing, does not import torch."""
    if isinstance(spec, Digits) or not spec.pack:
        shared.check_setting()
        return _DATASETS[spec.dataset].inspect(spec)
    return packed.inspect(spec, _opened(spec))


def load(spec: DataSpec) -> Splits:
    """The splits of the dataset; validation comes from its training set. DataError where they cannot be had."""
    if not isinstance(spec, Digits) and spec.pack:
        return packed.load(spec, _opened(spec))
    dataset = _DATASETS[spec.dataset]
    if isinstance(spec, Digits | ImageFolder):  # half a megabyte; files that are decoded when they are fetched
        return dataset.load(spec)
    if isinstance(spec, Cifar) and spec.download:
        cifar.download_if_absent(spec)
    return shared.load_once(spec, dataset.files(spec), lambda: dataset.load(spec))


def _opened(spec: Packable) -> Pack:
    return open_pack(spec, lambda: _DATASETS[spec.dataset].files(spec))


def make_pack(
    spec: Packable,
    out: Path,
    short: int | None = None,
    advance: Callable[[int, int], None] = lambda done, of: None,  # noqa: ARG005
) -> int:
    """Decode and resize every image once into ``out`` (see ``pack.py``); returns how many bad ones were left out.

    ``short`` is the shorter side of photographs, by default the one that evaluation resizes them to. ``advance(done,
    of)`` is called after each image. DataError where an image or the folder is not as it should be.
    """
    least = short_side(spec.image_size)
    if short is not None and short < least:
        raise DataError("data.image_size", f"{spec.image_size} needs shorter sides of {least} pixels, not {short}")
    dataset = _DATASETS[spec.dataset]
    return write_pack(spec, dataset.sources(spec, short or least), dataset.files(spec), out, short or least, advance)
