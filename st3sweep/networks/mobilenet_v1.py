"""MobileNetV1 (Howard et al. 2017): alternating depthwise 3x3 and pointwise 1x1 convolutions."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from st3sweep.trial.model import ModelConfig, register_model


@register_model
class MobileNetV1Config(ModelConfig):
    """MobileNetV1 (Howard et al. 2017). ``stem_stride`` 2 for 224-pixel images, 1 for 32-pixel images."""

    arch: Literal["mobilenet_v1"]
    width: float = Field(1.0, gt=0, le=4)
    stem_stride: Literal[1, 2] = 2

    @property
    def label(self) -> str:
        return "mobilenet_v1" + ("" if self.width == 1.0 else f"_w{self.width:g}")

    def build(self, num_classes: int, channels: int) -> MobileNetV1:
        return MobileNetV1(num_classes, channels, self.width, self.stem_stride)


# (output channels, stride) of the thirteen depthwise-separable blocks: Table 1 of the paper.
BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip


class MobileNetV1(nn.Module):
    """MobileNetV1. ``stem_stride`` 2 is the paper's, for 224-pixel images; 1 keeps the resolution of 32-pixel ones."""

    def __init__(self, num_classes: int, channels: int = 3, width: float = 1.0, stem_stride: int = 2):
        super().__init__()

        def scaled(c: int) -> int:
            return max(8, round(c * width))

        c_in = scaled(32)
        layers: list[nn.Module] = [_conv(channels, c_in, 3, stem_stride)]
        for c_out, stride in BLOCKS:
            c_out = scaled(c_out)
            layers += [_conv(c_in, c_in, 3, stride, groups=c_in), _conv(c_in, c_out, 1)]
            c_in = c_out
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(c_in, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)  # (B, C, H / 32, W / 32) with the stem of stride 2
        return self.fc(x.mean(dim=(2, 3)))  # (B, num_classes)


def _conv(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
    )
