"""Load datasets from settings given as fields, and compare what was counted with what was loaded."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from st3sweep import data
from st3sweep.data import DataError, DataInfo
from st3sweep.data.images import ArrayImages
from st3sweep.trial.data import DataConfig


def spec(**fields) -> DataConfig:
    return DataConfig.parse({k: str(v) if k == "root" else v for k, v in fields.items()})


def counts(splits: data.Splits) -> tuple[int, int, int]:
    return len(splits.train), len(splits.validation), len(splits.test) if splits.test else 0


def all_pixels(images: ArrayImages) -> np.ndarray:
    return images.on(torch.device("cpu")).numpy()


def assert_agree(info: DataInfo, splits: data.Splits) -> None:
    """Load the splits, and check that they have the counts of inspect."""
    assert (info.train, info.validation, info.test) == counts(splits)
    assert info.num_classes == splits.num_classes
    assert len(splits.mean) == len(splits.std) == info.channels
    shown = splits.train.fetch(torch.tensor([0]), 0, 0, True)
    assert shown.shape == (1, info.channels, info.image_size, info.image_size)
    assert shown.dtype == torch.uint8
    for images in filter(None, (splits.train, splits.validation, splits.test)):
        assert images.labels.dtype == images.sample_ids.dtype == torch.int64
        assert len(images.labels) == len(images.sample_ids) == len(images)
        assert 0 <= int(images.labels.min()) <= int(images.labels.max()) < info.num_classes


def error_of(**fields) -> DataError:
    """Return the error that inspect and load both raise."""
    with pytest.raises(DataError) as inspected:
        data.inspect(spec(**fields))
    with pytest.raises(DataError) as loaded:
        data.load(spec(**fields))
    assert str(inspected.value) == str(loaded.value)
    return inspected.value
