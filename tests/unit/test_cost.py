"""Test counts of weights and multiply-accumulates: exact published totals, single layers by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from st3sweep.networks.cifar_resnet import CifarResNet
from st3sweep.networks.flops import gflops, layer_costs, training_gflops
from st3sweep.networks.mobilenet_v1 import MobileNetV1
from st3sweep.networks.resnet50 import ResNet50
from st3sweep.networks.vgg import VGG, VGG11, VGG_SMALL
from st3sweep.networks.wide_resnet import WideResNet


@pytest.mark.parametrize(
    ("model", "size", "weights", "macs"),
    [
        (CifarResNet(20, 16, 10), 32, 270_896, 40_813_184),
        (CifarResNet(20, 16, 100), 32, 276_656, 40_818_944),
        (VGG(VGG11, 10), 32, 9_222_848, 152_769_536),
        (WideResNet(34, 2, 100), 32, 1_862_576, 270_987_776),
        (ResNet50(1000), 224, 25_502_912, 4_089_184_256),
        (MobileNetV1(1000), 224, 4_209_088, 568_740_352),
    ],
    ids=["resnet20-10", "resnet20-100", "vgg11", "wrn34x2", "resnet50", "mobilenet_v1"],
)
def test_published_totals(model: nn.Module, size: int, weights: int, macs: int) -> None:
    costs = layer_costs(model, (3, size, size))
    assert sum(cost.numel for cost in costs) == weights
    assert sum(cost.macs for cost in costs) == macs
    assert gflops(costs) == macs / 1e9


def test_weights_of_the_small_vgg() -> None:
    """Its multiply-accumulates, which depend on where it pools, are not published."""
    assert sum(cost.numel for cost in layer_costs(VGG(VGG_SMALL, 10), (3, 32, 32))) == 371_648


class Few(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(4, 4, 5, padding=2, groups=4)
        self.twice = nn.Conv2d(4, 4, 1, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.unused = nn.Linear(7, 7)
        self.fc = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.depthwise(self.conv(x)))
        return self.fc(self.twice(self.twice(x)).mean(dim=(2, 3)))


def test_layers_by_hand() -> None:
    costs = layer_costs(Few(), (3, 12, 8))  # 6x4 positions after the stride
    assert [(c.name, c.shape, c.numel, c.macs) for c in costs] == [
        ("conv", (4, 3, 3, 3), 108, 108 * 24),
        ("depthwise", (4, 1, 5, 5), 100, 100 * 24),
        ("twice", (4, 4, 1, 1), 16, 2 * 16 * 24),
        ("unused", (7, 7), 49, 0),
        ("fc", (10, 4), 40, 40),
    ]


def test_sparse_cost_by_hand() -> None:
    costs = layer_costs(Few(), (3, 12, 8))
    found = gflops(costs, [0.5, 0.25, 0.0, 0.1, 0.75])
    assert found == pytest.approx((1296 + 600 + 0 + 0 + 30) / 1e9, rel=1e-12)
    with pytest.raises(ValueError, match="argument"):
        gflops(costs, [0.5])


def test_the_model_is_unchanged() -> None:
    model = Few().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    layer_costs(model, (3, 12, 8))
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.device.type == "cpu" for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_cost_of_training_by_hand() -> None:
    """Two epochs of 10 images, of a model that costs 4 dense, then 4 and 1: a step costs three times the model."""
    assert training_gflops([4.0, 1.0], 4.0, 10, 0.0) == 150.0  # 3 * 4 + 3 * 1
    assert training_gflops([4.0, 1.0], 4.0, 10, 1.0) == 180.0  # the gradient of all weights costs 4 in both
    assert training_gflops([4.0, 1.0], 4.0, 10, 0.5) == 165.0
    with pytest.raises(ValueError, match=r"dense_gradients must be in \[0, 1\], got 1.5"):
        training_gflops([1.0], 4.0, 10, 1.5)


def test_cost_of_training_with_rigl_is_that_of_its_paper() -> None:
    """The paper counts 3 f_S for a step and 2 f_S + f_D for an update; here one of ΔT steps has an update."""
    sparse, dense, interval_steps = 0.2, 1.0, 100
    every_step = training_gflops([sparse], dense, 1, 1 / interval_steps)
    assert every_step * interval_steps == pytest.approx(3 * sparse * (interval_steps - 1) + 2 * sparse + dense)
