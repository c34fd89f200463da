"""Load scikit-learn's bundled handwritten digits: 1,797 images of 8x8 pixels, values 0 to 16, ten classes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from st3sweep.data.class_names import DIGITS
from st3sweep.data.normalisation import mean_and_std
from st3sweep.data.records import DataError, DataInfo, Splits
from st3sweep.data.split import parts, sizes, stratified
from st3sweep.trial.data import DataConfig, ShiftDigits, Validation, register_dataset

_IMAGES, _TEST, _CLASSES = 1797, 297, 10


@register_dataset
class DigitsConfig(DataConfig):
    """scikit-learn's 1,797 handwritten digits, bundled: nothing to download."""

    channels: ClassVar[int] = 1

    dataset: Literal["digits"]
    validation: Validation = 300
    image_size: int = Field(16, ge=8, le=64)
    augment: ShiftDigits = ShiftDigits()

    def class_names(self) -> tuple[str, ...]:
        return DIGITS

    def preprocessing(self) -> dict[str, Any]:
        return {"channel_order": "grey", "resize": {"square": self.image_size}, "centre_crop": None}

    def inspect(self) -> DataInfo:
        """Return the counts of the fixed split: 297 test images, the others for training and validation."""
        train, validation = sizes(self, _IMAGES - _TEST)
        return DataInfo(_CLASSES, 1, self.image_size, train, validation, _TEST)

    def load(self) -> Splits:
        """Load the three splits, images (1, image_size, image_size), each with the same class proportions."""
        from st3sweep.data.images import ArrayImages

        values, labels = _values_and_labels()
        pixels = _enlarged(values, self.image_size)
        order = stratified(labels)
        train, validation = parts(self, order[_TEST:])

        def chosen(ids: NDArray[np.int64]) -> ArrayImages:
            return ArrayImages(pixels[ids], labels[ids], ids)

        mean, std = mean_and_std(pixels[train])
        return Splits(chosen(train), chosen(validation), chosen(order[:_TEST]), _CLASSES, mean, std)


def _values_and_labels() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Read (1797, 8, 8) of 0 to 16 and (1797,) labels from scikit-learn's file: its loader takes seconds to import."""
    package = find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise DataError("data.dataset", "digits come with scikit-learn, which is not installed")
    file = Path(package.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    rows = np.loadtxt(file, delimiter=",")  # 64 pixels and the label
    return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(np.int64)


def _enlarged(values: NDArray[np.float64], size: int) -> NDArray[np.uint8]:
    """Resize (N, 8, 8) of 0 to 16 bilinearly to (N, 1, size, size) of 0 to 255."""
    scaled = np.round(values * (255 / 16)).astype(np.uint8)
    images = [Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR) for image in scaled]
    return np.stack([np.asarray(image) for image in images])[:, None]
