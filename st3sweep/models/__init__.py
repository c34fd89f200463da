"""Plain networks that know nothing of sparsity, by the name that a space gives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from st3sweep.models.cifar_resnet import CifarResNet
from st3sweep.models.mobilenet_v1 import MobileNetV1
from st3sweep.models.resnet50 import ResNet50
from st3sweep.models.torchvision_network import torchvision_network
from st3sweep.models.vgg import VGG, VGG11, VGG_SMALL
from st3sweep.models.wide_resnet import WideResNet
from st3sweep.spec import ModelSpec

MODELS: dict[str, Callable[[Any, int, int], nn.Module]] = {
    "cifar_resnet": lambda spec, classes, channels: CifarResNet(spec.depth, spec.width, classes, channels),
    "mobilenet_v1": lambda spec, classes, channels: MobileNetV1(classes, channels, spec.width, spec.stem_stride),
    "vgg11": lambda _, classes, channels: VGG(VGG11, classes, channels),
    "vgg_small": lambda _, classes, channels: VGG(VGG_SMALL, classes, channels),
    "wide_resnet": lambda spec, classes, channels: WideResNet(spec.depth, spec.width, classes, channels, spec.dropout),
    "resnet50": lambda _, classes, channels: ResNet50(classes, channels),
    "torchvision": lambda spec, classes, channels: torchvision_network(spec.network, classes, channels),
}


def build_model(spec: ModelSpec, num_classes: int, channels: int, bn_momentum: float = 0.1) -> nn.Module:
    """The network, initialised from torch's global generator; batch norms get ``bn_momentum`` (PyTorch's sense)."""
    model = MODELS[spec.arch](spec, num_classes, channels)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = bn_momentum
    return model
