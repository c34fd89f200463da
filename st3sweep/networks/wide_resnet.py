"""Wide ResNet (Zagoruyko & Komodakis 2016): pre-activation blocks, wider and fewer than in a ResNet."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor, nn

from st3sweep.trial.model import ModelConfig, register_model


@register_model
class WideResNetConfig(ModelConfig):
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
    def label(self) -> str:
        return f"wide_resnet{self.depth}x{self.width}" + (f"_d{self.dropout:g}" if self.dropout else "")

    def build(self, num_classes: int, channels: int) -> WideResNet:
        return WideResNet(self.depth, self.width, num_classes, channels, self.dropout)


class Block(nn.Module):
    """Twice norm, ReLU and 3x3 convolution, dropout between; (B, C_in, H, W) -> (B, C_out, H / s, W / s)."""

    def __init__(self, c_in: int, c_out: int, stride: int, dropout: float):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        # Whole channels, as ST-3's released code does; the paper drops single values.
        self.dropout = nn.Dropout2d(dropout) if dropout else nn.Identity()
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        changes_shape = stride != 1 or c_in != c_out
        self.shortcut = nn.Conv2d(c_in, c_out, 1, stride, bias=False) if changes_shape else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.bn1(x))
        # A projection sees the activated input, an identity the input itself: the authors' code.
        shortcut = x if isinstance(self.shortcut, nn.Identity) else self.shortcut(activated)
        y = self.dropout(F.relu(self.bn2(self.conv1(activated))))
        return self.conv2(y) + shortcut


class WideResNet(nn.Module):
    """Wide ResNet of ``depth`` = 6n+4 layers: a convolution, three stages of n blocks, from 16 ``width`` channels."""

    def __init__(self, depth: int, width: int, num_classes: int, channels: int = 3, dropout: float = 0.0):
        super().__init__()
        n = (depth - 4) // 6
        c = 16 * width
        self.conv1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        self.stage1 = _stage(n, 16, c, 1, dropout)
        self.stage2 = _stage(n, c, 2 * c, 2, dropout)
        self.stage3 = _stage(n, 2 * c, 4 * c, 2, dropout)
        self.bn = nn.BatchNorm2d(4 * c)
        self.fc = nn.Linear(4 * c, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)  # (B, 16, H, W)
        x = self.stage3(self.stage2(self.stage1(x)))  # (B, 64 width, H / 4, W / 4)
        return self.fc(F.relu(self.bn(x)).mean(dim=(2, 3)))  # (B, num_classes)


def _stage(blocks: int, c_in: int, c_out: int, stride: int, dropout: float) -> nn.Sequential:
    rest = (Block(c_out, c_out, 1, dropout) for _ in range(blocks - 1))
    return nn.Sequential(Block(c_in, c_out, stride, dropout), *rest)
