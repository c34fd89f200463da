"""Fields of a space's ``model``: the networks."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator

from st3sweep.spec.fields import Frozen
from st3sweep.spec.torchvision import NETWORKS, known_network, smallest_image


class _Network(Frozen):
    """What every network tells of itself: the images that it cannot take."""

    colour_only: ClassVar[bool] = False  # three channels and no other number

    @property
    def smallest_image(self) -> int:
        """Pixels of a side below which nothing is left to convolve."""
        return 1


class CifarResNet(_Network):
    """ResNet for small images (He et al. 2016, section 4.2): depth 6n+2, ``width`` channels in the first stage."""

    arch: Literal["cifar_resnet"]
    depth: int = Field(20, ge=8)
    width: int = Field(16, ge=1)

    @field_validator("depth")
    @classmethod
    def _depth_is_6n_plus_2(cls, depth: int) -> int:
        if (depth - 2) % 6:
            lower = depth - (depth - 2) % 6
            raise ValueError(f"must be 6n+2: {lower} or {lower + 6}")
        return depth

    @property
    def name(self) -> str:
        return f"resnet{self.depth}" + ("" if self.width == 16 else f"_w{self.width}")


class MobileNetV1(_Network):
    """MobileNetV1 (Howard et al. 2017). ``stem_stride`` 2 for 224-pixel images, 1 for 32-pixel images."""

    arch: Literal["mobilenet_v1"]
    width: float = Field(1.0, gt=0, le=4)
    stem_stride: Literal[1, 2] = 2

    @property
    def name(self) -> str:
        return "mobilenet_v1" + ("" if self.width == 1.0 else f"_w{self.width:g}")


class VGG11(_Network):
    """VGG-11 (Simonyan & Zisserman 2015) with batch norm, global average pooling and one linear layer."""

    arch: Literal["vgg11"]

    @property
    def name(self) -> str:
        return "vgg11"

    @property
    def smallest_image(self) -> int:
        return 32  # five poolings


class VGGSmall(_Network):
    """The four convolutions that ST-3's released code calls VGG-11; where it pools is a guess."""

    arch: Literal["vgg_small"]

    @property
    def name(self) -> str:
        return "vgg_small"

    @property
    def smallest_image(self) -> int:
        return 8  # three poolings


class WideResNet(_Network):
    """Wide ResNet (Zagoruyko & Komodakis 2016): depth 6n+4, 16 ``width`` channels in the first stage.

    ``dropout``: rate of dropping a channel between a block's convolutions.
    """

    arch: Literal["wide_resnet"]
    depth: int = Field(34, ge=10)
    width: int = Field(2, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)

    @field_validator("depth")
    @classmethod
    def _depth_is_6n_plus_4(cls, depth: int) -> int:
        if (depth - 4) % 6:
            lower = depth - (depth - 4) % 6
            raise ValueError(f"must be 6n+4: {lower} or {lower + 6}")
        return depth

    @property
    def name(self) -> str:
        return f"wide_resnet{self.depth}x{self.width}" + (f"_d{self.dropout:g}" if self.dropout else "")


class ResNet50(_Network):
    """ResNet-50 for photographs (He et al. 2016), with the stride in the 3x3 convolutions as torchvision's."""

    arch: Literal["resnet50"]

    @property
    def name(self) -> str:
        return "resnet50"


class Torchvision(_Network):
    """A convolutional classifier of torchvision by its name there, untrained; three channels."""

    arch: Literal["torchvision"]
    network: Annotated[str, AfterValidator(known_network), Field(json_schema_extra={"enum": list(NETWORKS)})]
    colour_only: ClassVar[bool] = True

    @property
    def name(self) -> str:
        # ResNet-50 is the same network by either way to name it; the VGG-11 here is another one than torchvision's.
        return self.network if self.network == "resnet50" else f"torchvision_{self.network}"

    @property
    def smallest_image(self) -> int:
        return smallest_image(self.network)


ModelSpec = Annotated[
    CifarResNet | MobileNetV1 | VGG11 | VGGSmall | WideResNet | ResNet50 | Torchvision,
    Field(discriminator="arch"),
]
