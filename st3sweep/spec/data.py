"""Fields of a space's ``data``: the datasets and what is done to their images."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from st3sweep.spec.fields import Frozen


class ShiftAndFlip(Frozen):
    """Augmentation of small images: random crop from an image padded by ``padding`` pixels, horizontal flip."""

    padding: int = Field(4, ge=0)
    fill: Literal["zero", "edge"] = "zero"
    flip: bool = True


class ShiftDigits(ShiftAndFlip):
    """The same for digits, which are small and have a left and a right."""

    padding: int = Field(1, ge=0)
    flip: bool = False


class ResizedCropAndFlip(Frozen):
    """Augmentation of photographs: a random part of area ``min_scale`` to 1, resized; horizontal flip."""

    min_scale: float = Field(0.08, gt=0, le=1)
    flip: bool = True


class _Data(Frozen):
    validation: int | Annotated[float, Field(gt=0, lt=1)] = 0.1  # images, or a fraction of the training set
    train_limit: int | None = Field(None, ge=1)  # train on the first so many images only

    @field_validator("validation")
    @classmethod
    def _some_validation(cls, value: int | float) -> int | float:
        if value <= 0:
            raise ValueError("must be at least one image")
        return value


class _OnDisk(_Data):
    root: str
    pack: str | None = None  # the folder that `st3sweep data pack` wrote; like root, no part of the digest
    bad_images: Literal["error", "skip"] = "error"  # files that are no image: refused, or left out and counted


class Digits(_Data):
    """scikit-learn's 1,797 handwritten digits, bundled: nothing to download."""

    dataset: Literal["digits"]
    validation: int | Annotated[float, Field(gt=0, lt=1)] = 300
    image_size: int = Field(16, ge=8, le=64)
    augment: ShiftDigits = ShiftDigits()


class Cifar(_OnDisk):
    """CIFAR-10 or -100: the python batches that torchvision downloads, or image Parquet files, under ``root``."""

    dataset: Literal["cifar10", "cifar100"]
    image_size: ClassVar[int] = 32  # no setting: what the files hold
    download: bool = False
    validation: int | Annotated[float, Field(gt=0, lt=1)] = 5000
    augment: ShiftAndFlip = ShiftAndFlip()


class ImageParquet(_OnDisk):
    """Parquet files with columns ``img`` or ``image`` (struct with ``bytes``) and ``label``; resized to a square."""

    dataset: Literal["image_parquet"]
    image_size: int = Field(32, ge=8, le=1024)
    augment: ShiftAndFlip = ShiftAndFlip()


class ImageFolder(_OnDisk):
    """Photographs: folders ``train/<class>/*.jpg`` and ``val/`` or ``test/`` for the test set, or Parquet files."""

    dataset: Literal["image_folder", "imagenet"]
    image_size: int = Field(224, ge=32)
    augment: ResizedCropAndFlip = ResizedCropAndFlip()


DataSpec = Annotated[Digits | Cifar | ImageParquet | ImageFolder, Field(discriminator="dataset")]
