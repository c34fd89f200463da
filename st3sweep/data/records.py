"""What loading a dataset gives: the counts, the images of each split, or one error that says what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # images.py imports torch; counting images must not
    from st3sweep.data.images import Images


class DataError(Exception):
    """The data are not as the trial says. ``field`` is the dotted path of the setting to look at."""

    def __init__(self, field: str, message: str):
        super().__init__(field, message)  # both arguments, so that the error can be pickled
        self.field = field
        self.message = message

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class BadImage(DataError):
    """The bytes of one image are truncated, or no image at all: what ``data.bad_images: skip`` leaves out."""


@dataclass(frozen=True)
class DataInfo:
    """Shape and counts of a dataset as it will be loaded; ``test`` is 0 where there is no test set."""

    num_classes: int
    channels: int
    image_size: int
    train: int
    validation: int
    test: int


@dataclass(frozen=True)
class Splits:
    """The three splits; ``mean`` and ``std`` are per channel, of pixels scaled to [0, 1]."""

    train: Images
    validation: Images
    test: Images | None
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image, as fetched."""
        channels, height, width = self.validation.fetch(self.validation.labels.new_zeros(1), 0, 0, False).shape[1:]
        return channels, height, width

    def input_facts(self) -> dict[str, Any]:
        """What a model trained on them takes and gives: image shape, normalisation, number of classes. Plain values."""
        channels, size, _ = self.image_shape()
        return {
            "num_classes": self.num_classes,
            "channels": channels,
            "image_size": size,
            "mean": list(self.mean),
            "std": list(self.std),
        }
