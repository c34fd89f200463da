"""VGG for small images (Simonyan & Zisserman 2015): 3x3 convolutions with batch norm, and one linear layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from st3sweep.trial.model import ModelConfig, register_model


@register_model
class VGG11Config(ModelConfig):
    """VGG-11 (Simonyan & Zisserman 2015) with batch norm, global average pooling and one linear layer."""

    arch: Literal["vgg11"]

    @property
    def label(self) -> str:
        return "vgg11"

    @property
    def smallest_image(self) -> int:
        return 32  # five poolings

    def build(self, num_classes: int, channels: int) -> VGG:
        return VGG(VGG11, num_classes, channels)


@register_model
class VGGSmallConfig(ModelConfig):
    """VGG with the four convolutions that ST-3's released code calls VGG-11; where it pools is a guess."""

    arch: Literal["vgg_small"]

    @property
    def label(self) -> str:
        return "vgg_small"

    @property
    def smallest_image(self) -> int:
        return 8  # three poolings

    def build(self, num_classes: int, channels: int) -> VGG:
        return VGG(VGG_SMALL, num_classes, channels)


# Output channels of the convolutions, and "pool" where 2x2 max pooling halves the image.
# Configuration A of the paper (its Table 1).
VGG11: tuple[int | Literal["pool"], ...] = (
    64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool",
)  # fmt: skip
# ST-3's released code: these four convolutions. Where it pools is not recorded: here where VGG-11 does, a guess that
# changes the multiply-accumulates and not the weights.
VGG_SMALL: tuple[int | Literal["pool"], ...] = (64, "pool", 128, "pool", 128, 128, "pool")


class VGG(nn.Module):
    """VGG of ``layers``, e.g. VGG11. Differs from the paper: batch norm, global average pooling, one linear layer."""

    def __init__(self, layers: Sequence[int | Literal["pool"]], num_classes: int, channels: int = 3):
        super().__init__()
        c_in = channels
        features: list[nn.Module] = []
        for c_out in layers:
            if c_out == "pool":
                features.append(nn.MaxPool2d(2))
            else:
                conv = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
                features += [conv, nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)]
                c_in = c_out
        self.features = nn.Sequential(*features)
        self.fc = nn.Linear(c_in, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)  # (B, C, H / 2^pools, W / 2^pools)
        return self.fc(x.mean(dim=(2, 3)))  # (B, num_classes)
