"""The names of torchvision's convolutional classifiers, to reject others before a sweep starts.

They are listed here because importing torchvision takes seconds, and imports torch.
"""

from __future__ import annotations

from st3sweep.networks.convolutional import NO_ATTENTION, known_name

NETWORKS = (
    "alexnet", "convnext_base", "convnext_large", "convnext_small", "convnext_tiny", "densenet121", "densenet161",
    "densenet169", "densenet201", "efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3",
    "efficientnet_b4", "efficientnet_b5", "efficientnet_b6", "efficientnet_b7", "efficientnet_v2_l",
    "efficientnet_v2_m", "efficientnet_v2_s", "googlenet", "inception_v3", "mnasnet0_5", "mnasnet0_75",
    "mnasnet1_0", "mnasnet1_3", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "regnet_x_16gf",
    "regnet_x_1_6gf", "regnet_x_32gf", "regnet_x_3_2gf", "regnet_x_400mf", "regnet_x_800mf", "regnet_x_8gf",
    "regnet_y_128gf", "regnet_y_16gf", "regnet_y_1_6gf", "regnet_y_32gf", "regnet_y_3_2gf", "regnet_y_400mf",
    "regnet_y_800mf", "regnet_y_8gf", "resnet101", "resnet152", "resnet18", "resnet34", "resnet50",
    "resnext101_32x8d", "resnext101_64x4d", "resnext50_32x4d", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0",
    "shufflenet_v2_x1_5", "shufflenet_v2_x2_0", "squeezenet1_0", "squeezenet1_1", "vgg11", "vgg11_bn", "vgg13",
    "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn", "wide_resnet101_2", "wide_resnet50_2",
)  # fmt: skip
_ATTENTION = ("vit_", "swin_", "maxvit_")
# Smallest image side, in pixels, that a model of this kind can convolve and pool.
_SMALLEST = {
    "alexnet": 63, "convnext": 32, "densenet": 29, "googlenet": 15, "inception": 75, "squeezenet1_0": 21,
    "squeezenet1_1": 17, "vgg": 32,
}  # fmt: skip


def known_network(name: str) -> str:
    """Return ``name``. Raises ValueError where it is no convolutional classifier of torchvision."""
    if name.startswith(_ATTENTION):
        raise ValueError(NO_ATTENTION)
    return known_name(name, NETWORKS, "torchvision")


def smallest_image(name: str) -> int:
    """Return the smallest image side, in pixels, that ``name`` accepts."""
    return next((pixels for kind, pixels in _SMALLEST.items() if name.startswith(kind)), 1)
