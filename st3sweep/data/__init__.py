"""Datasets to batches: ``inspect`` counts without torch, ``load`` gives the splits, ``batches`` iterates over them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from st3sweep.data import cifar, digits, folder, image_parquet
from st3sweep.data.records import DataError, DataInfo, Splits
from st3sweep.spec import DataSpec

__all__ = ["DataError", "DataInfo", "Splits", "inspect", "load"]

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


def inspect(spec: DataSpec) -> DataInfo:
    """Counts and shape of the data as ``load`` will give them, or DataError. Decodes nothing, does not import torch."""
    return _INSPECT[spec.dataset](spec)


def load(spec: DataSpec) -> Splits:
    """The splits of the dataset; validation comes from its training set. DataError where they cannot be had."""
    return _LOAD[spec.dataset](spec)
