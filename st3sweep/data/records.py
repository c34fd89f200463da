"""Records of a loaded dataset: its counts, the images of its splits, and the error if it cannot be loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from st3sweep.util.errors import UserError

if TYPE_CHECKING:  # images.py imports torch; counting images must not
    from st3sweep.data.images import Images


class DataError(UserError):
    """The data do not fit the trial's settings; ``field`` is the dotted path of the setting to change."""

    def __init__(self, field: str, message: str):
        super().__init__(field, message)  # both arguments: pickling passes them again
        self.field = field
        self.message = message

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class BadImage(DataError):
    """One image is truncated or not an image; ``data.bad_images: skip`` skips it."""


@dataclass(frozen=True)
class DataInfo:
    """Shape and counts of a dataset as it will be loaded; ``test`` is 0 if there is no test set.

    ``note`` says in a line what was left out; empty if nothing was.
    """

    num_classes: int
    channels: int
    image_size: int
    train: int
    validation: int
    test: int
    note: str = ""


@dataclass(frozen=True)
class Splits:
    """The three splits of a dataset; ``mean`` and ``std`` are per channel, of pixels scaled to [0, 1]."""

    train: Images
    validation: Images
    test: Images | None
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...] | None = None  # in the order of the labels, where the data have names

    def image_shape(self) -> tuple[int, int, int]:
        """Return (C, H, W) of every image, as fetched."""
        channels, height, width = self._first().shape[1:]
        return channels, height, width

    def info(self) -> DataInfo:
        """Return the counts and shape of the dataset."""
        channels, size, _ = self.image_shape()
        test = len(self.test) if self.test is not None else 0
        return DataInfo(self.num_classes, channels, size, len(self.train), len(self.validation), test)

    def input_facts(self) -> dict[str, Any]:
        """Return a model's input shape, normalisation and classes, as plain values."""
        image = self._first()
        channels, size = image.shape[1:3]
        return {
            "num_classes": self.num_classes,
            "class_names": list(self.class_names) if self.class_names else None,
            "channels": channels,
            "image_size": size,
            "mean": list(self.mean),
            "std": list(self.std),
            "divide_by": 255 if "uint8" in str(image.dtype) else 1,  # floating-point images are used as they are
        }

    def _first(self) -> Any:
        return self.validation.fetch(self.validation.labels.new_zeros(1), 0, 0, False)
