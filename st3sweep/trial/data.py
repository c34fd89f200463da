"""``DataConfig``: base of all dataset settings. Each dataset's class is beside its reader in ``data/formats/``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from st3sweep.trial.fields import Frozen
from st3sweep.trial.registry import Registered, register

__all__ = [
    "DataConfig",
    "NoShift",
    "OnDiskConfig",
    "ResizedCropAndFlip",
    "ShiftAndFlip",
    "ShiftDigits",
    "Validation",
    "register_dataset",
]

Validation = int | Annotated[float, Field(gt=0, lt=1)]  # images, or a fraction of the training set


class ShiftAndFlip(Frozen):
    """Augmentation of small images: random crop from an image padded by ``padding`` pixels, horizontal flip."""

    padding: int = Field(4, ge=0)
    fill: Literal["zero", "edge"] = "zero"
    flip: bool = True


class NoShift(ShiftAndFlip):
    """``ShiftAndFlip`` that does nothing unless it is told to: for datasets of users."""

    padding: int = Field(0, ge=0)
    flip: bool = False


class ShiftDigits(ShiftAndFlip):
    """``ShiftAndFlip`` with defaults for digits, which are small and not mirror-symmetric."""

    padding: int = Field(1, ge=0)
    flip: bool = False


class ResizedCropAndFlip(Frozen):
    """Augmentation of photographs: a random part of area ``min_scale`` to 1, resized; horizontal flip."""

    min_scale: float = Field(0.08, gt=0, le=1)
    flip: bool = True


class DataConfig(Registered):
    """Base of all dataset settings. A subclass narrows ``dataset`` to its names and is decorated ``@register_dataset``.

    A subclass also has ``augment`` and ``image_size``, the pixels of a side: a field, or a constant where the files
    determine it.
    """

    key: ClassVar[str] = "dataset"
    registered: ClassVar[dict[str, type[DataConfig]]] = {}
    channels: ClassVar[int] = 3
    recipe_size: ClassVar[Literal["small", "large"]] = "small"  # which variant of a recipe is for its images

    if TYPE_CHECKING:  # each a field or a constant in a subclass
        image_size: int
        augment: ShiftAndFlip | ResizedCropAndFlip

    dataset: str
    validation: Validation = 0.1
    train_limit: int | None = Field(None, ge=1)  # number of images to train on, from the first

    @field_validator("validation")
    @classmethod
    def _some_validation(cls, value: int | float) -> int | float:
        if value <= 0:
            raise ValueError("must be at least one image")
        return value

    @property
    def place(self) -> str:
        """Return the folder, where the name alone does not determine the images; else the empty string."""
        return ""

    @property
    def known_classes(self) -> int | None:
        """Return the number of classes, where the name alone determines it; else None."""
        return None

    def class_names(self) -> tuple[str, ...] | None:
        """Return the names of the classes, in the order of their labels; None where the data have none."""
        return None

    def preprocessing(self) -> dict[str, Any]:
        """Return how an image is made for evaluation, before it is normalised; empty where the data come ready.

        ``channel_order`` is RGB or grey; ``resize``, None or what of the image gets how many pixels: ``short_side`` or
        ``square``; ``centre_crop``, None or pixels of a side.
        """
        return {}

    def inspect(self) -> Any:
        """Return counts and shape as of ``load``, a ``data.DataInfo``; decodes nothing. Raises ``data.DataError``."""
        raise NotImplementedError

    def load(self) -> Any:
        """Return the three splits, a ``data.Splits``. Raises ``data.DataError`` where they cannot be read."""
        raise NotImplementedError


class OnDiskConfig(DataConfig):
    """Base of datasets of image files under ``root``, which can be decoded once into a pack."""

    photographs: ClassVar[bool] = False  # of any size, decoded and cropped at each access; else squares, decoded once
    ordered: ClassVar[bool] = False  # whether the validation images are the last in file order, not a random choice

    root: str
    pack: str | None = None  # folder written by `st3sweep data pack`; like root, not part of the digest
    bad_images: Literal["error", "skip"] = "error"  # unreadable images: an error, or left out and counted

    @property
    def place(self) -> str:
        return str(Path(self.root))

    @property
    def decoding(self) -> int:
        """Return the version of how files of any kind are found and decoded: above 1, a part of the digest."""
        return 1

    def split_files(self) -> dict[str, list[str]]:
        """Return the files of each split, where an image is a file; else an empty dict."""
        return {}

    def fetch(self) -> None:
        """Download missing files, where the settings allow it. Default: does nothing."""

    def files(self) -> list[Path] | list[str]:
        """Return the files that the images are read from."""
        raise NotImplementedError

    def sources(self, short_side: int) -> Any:
        """Return all images for a pack (``data.pack.sources.Sources``); photographs get shorter side ``short_side``."""
        raise NotImplementedError


register_dataset = register
