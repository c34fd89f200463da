"""ResNet for small images (He et al. 2016, section 4.2), with projection shortcuts (option B)."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor, nn

from st3sweep.trial.model import ModelConfig, register_model


@register_model
class CifarResNetConfig(ModelConfig):
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
    def label(self) -> str:
        return f"resnet{self.depth}" + ("" if self.width == 16 else f"_w{self.width}")

    def build(self, num_classes: int, channels: int) -> CifarResNet:
        return CifarResNet(self.depth, self.width, num_classes, channels)


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut; (B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.shortcut = nn.Sequential()
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """ResNet of ``depth`` = 6n+2 layers: a stem and three stages of n blocks with width, 2 width, 4 width channels."""

    def __init__(self, depth: int, width: int, num_classes: int, channels: int = 3):
        super().__init__()
        n = (depth - 2) // 6
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.stage1 = _stage(n, width, width, 1)
        self.stage2 = _stage(n, width, 2 * width, 2)
        self.stage3 = _stage(n, 2 * width, 4 * width, 2)
        self.fc = nn.Linear(4 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))  # (B, width, H, W)
        x = self.stage3(self.stage2(self.stage1(x)))  # (B, 4 width, H / 4, W / 4)
        return self.fc(x.mean(dim=(2, 3)))  # (B, num_classes)


def _stage(blocks: int, c_in: int, c_out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(Block(c_in, c_out, stride), *(Block(c_out, c_out, 1) for _ in range(blocks - 1)))
