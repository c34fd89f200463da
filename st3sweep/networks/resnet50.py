"""ResNet-50 for photographs (He et al. 2016), with the names and the initial weights of torchvision's."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from st3sweep.trial.model import ModelConfig, register_model


@register_model
class ResNet50Config(ModelConfig):
    """ResNet-50 for photographs (He et al. 2016), with the stride in the 3x3 convolutions as torchvision's."""

    arch: Literal["resnet50"]

    @property
    def label(self) -> str:
        return "resnet50"

    def build(self, num_classes: int, channels: int) -> ResNet50:
        return ResNet50(num_classes, channels)


# (inner channels, blocks, stride) of the four stages: Table 1 of the paper.
STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
EXPANSION = 4  # a block's output channels over its inner ones


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with a shortcut; (B, C_in, H, W) -> (B, 4 C, H / stride, W / stride).

    Differs from the paper: the stride is in the 3x3 convolution, not in the first 1x1, with which the model would cost
    3,858 instead of 4,089 million multiply-accumulates.
    """

    def __init__(self, c_in: int, c: int, stride: int):
        super().__init__()
        c_out = EXPANSION * c
        downsample = None
        if stride != 1 or c_in != c_out:  # initialised first, registered last: a seed gives torchvision's weights
            downsample = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))
        self.conv1 = nn.Conv2d(c_in, c, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c)
        self.conv2 = nn.Conv2d(c, c, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c)
        self.conv3 = nn.Conv2d(c, c_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(c_out)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + shortcut)


class ResNet50(nn.Module):
    """ResNet-50: a stem that quarters the image's sides, and four stages of bottlenecks."""

    def __init__(self, num_classes: int, channels: int = 3):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        stages, c_in = [], 64
        for c, blocks, stride in STAGES:
            rest = (Bottleneck(EXPANSION * c, c, 1) for _ in range(blocks - 1))
            stages.append(nn.Sequential(Bottleneck(c_in, c, stride), *rest))
            c_in = EXPANSION * c
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Linear(c_in, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))  # (B, 64, H / 4, W / 4)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # (B, 2048, H / 32, W / 32)
        return self.fc(x.mean(dim=(2, 3)))  # (B, num_classes)
