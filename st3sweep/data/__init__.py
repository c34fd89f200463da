"""Datasets to batches: ``inspect`` counts without torch, ``load`` gives the splits, ``batches`` iterates over them.

``make_pack`` decodes a dataset once, for all trials that follow and name the pack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from st3sweep.data import cifar, digits, folder, image_parquet, packed
from st3sweep.data.decode import short_side
from st3sweep.data.pack import Packable, image_size, open_pack
from st3sweep.data.pack_writer import write_pack
from st3sweep.data.records import DataError, DataInfo, Splits
from st3sweep.data.sources import Sources
from st3sweep.spec import DataSpec, Digits

__all__ = ["DataError", "DataInfo", "Splits", "inspect", "load", "make_pack"]

_INSPECT: dict[str, Callable[[Any], DataInfo]] = {
    "digits": digits.inspect,
    "cifar10": cifar.inspect,
    "cifar100": cifar.inspect,
    "image_parquet": image_parquet.inspect,
    "image_folder": folder.inspect,
    "imagenet": folder.inspect,
}
_LOAD: dict[str, Callable[[Any], Splits]] = {
    "digits": digits.load,
    "cifar10": cifar.load,
    "cifar100": cifar.load,
    "image_parquet": image_parquet.load,
    "image_folder": folder.load,
    "imagenet": folder.load,
}
# What a pack is made from, photographs with a shorter side of so many pixels; and the files that are read for it.
_SOURCES: dict[str, tuple[Callable[[Any, int], Sources], Callable[[Any], Iterable[str | Path]]]] = {
    "cifar10": (cifar.sources, cifar.files),
    "cifar100": (cifar.sources, cifar.files),
    "image_parquet": (image_parquet.sources, image_parquet.files),
    "image_folder": (folder.sources, folder.files),
    "imagenet": (folder.sources, folder.files),
}


def inspect(spec: DataSpec) -> DataInfo:
    """Counts and shape of the data as ``load`` will give them, or DataError. Decodes nothing, does not import torch."""
    if isinstance(spec, Digits) or not spec.pack:
        return _INSPECT[spec.dataset](spec)
    return packed.inspect(spec, open_pack(spec, lambda: _SOURCES[spec.dataset][1](spec)))


def load(spec: DataSpec) -> Splits:
    """The splits of the dataset; validation comes from its training set. DataError where they cannot be had."""
    if isinstance(spec, Digits) or not spec.pack:
        return _LOAD[spec.dataset](spec)
    return packed.load(spec, open_pack(spec, lambda: _SOURCES[spec.dataset][1](spec)))


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
    least = short_side(image_size(spec))
    if short is not None and short < least:
        raise DataError("data.image_size", f"{image_size(spec)} needs shorter sides of {least} pixels, not {short}")
    sources, files = _SOURCES[spec.dataset]
    made_from = sources(spec, short or least)
    return write_pack(spec, made_from, files(spec), out, short or least, advance)
