"""A model, a dataset and a method, registered from functions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from st3sweep import ST3, Method, register_dataset, register_method, register_model


@register_model("shapes_net")
def build(num_classes: int, channels: int, width: int = 8) -> nn.Module:
    """Two convolutions and a classifier."""
    convolutions = (nn.Conv2d(channels, width, 3), nn.ReLU(), nn.Conv2d(width, width, 3), nn.ReLU())
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))


@register_dataset("shapes")
def load(images: int = 128) -> tuple[tuple[Tensor, Tensor], None, tuple[Tensor, Tensor]]:
    """Bars, upright or flat, in noise."""
    return _bars(images, 0), None, _bars(64, 1)


@register_method("late")
def make(weights: list[Tensor], target: float = 0.5) -> Method:
    """ST-3 on a ramp over the second half of training."""
    return ST3(weights, target=target, start=0.5, end=0.9)


def _bars(images: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % 2
    pixels = torch.randint(0, 100, (images, 1, 8, 8), generator=generator)
    pixels[labels == 0, :, 3] += 150
    pixels[labels == 1, :, :, 3] += 150
    return pixels.to(torch.uint8), labels
