"""Fields of a space's ``model``: the networks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from st3sweep.spec.fields import Frozen


class CifarResNet(Frozen):
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


class MobileNetV1(Frozen):
    """MobileNetV1 (Howard et al. 2017). ``stem_stride`` 2 for 224-pixel images, 1 for 32-pixel images."""

    arch: Literal["mobilenet_v1"]
    width: float = Field(1.0, gt=0, le=4)
    stem_stride: Literal[1, 2] = 2

    @property
    def name(self) -> str:
        return "mobilenet_v1" + ("" if self.width == 1.0 else f"_w{self.width:g}")


ModelSpec = Annotated[CifarResNet | MobileNetV1, Field(discriminator="arch")]
