"""The networks: shapes, names of their parameters, shortcuts and batch norm."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from st3sweep.models import MODELS, build_model
from st3sweep.models.cifar_resnet import Block, CifarResNet
from st3sweep.spec import ModelSpec

SMALL: list[dict[str, Any]] = [
    {"arch": "cifar_resnet", "depth": 14, "width": 5},
    {"arch": "mobilenet_v1", "width": 0.25, "stem_stride": 1},
    {"arch": "mobilenet_v1", "width": 0.25},
]


def build(fields: dict[str, Any], classes: int = 7, channels: int = 3, **settings: float) -> nn.Module:
    torch.manual_seed(0)
    return build_model(TypeAdapter(ModelSpec).validate_python(fields), classes, channels, **settings)


@pytest.mark.parametrize("fields", SMALL, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_logits_of_32_pixel_images(fields: dict[str, Any], channels: int) -> None:
    logits = build(fields, channels=channels).eval()(torch.randn(2, channels, 32, 32))
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()


@pytest.mark.parametrize(("stem_stride", "side"), [(1, 2), (2, 1)])
def test_resolution_of_mobilenet(stem_stride: int, side: int) -> None:
    features = build({"arch": "mobilenet_v1", "width": 0.25, "stem_stride": stem_stride}).features
    assert isinstance(features, nn.Module)
    assert features(torch.randn(2, 3, 32, 32)).shape == (2, 256, side, side)


@pytest.mark.parametrize("fields", SMALL, ids=str)
def test_parameters_have_plain_names(fields: dict[str, Any]) -> None:
    model = build(fields)
    tensors = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    modules = dict(model.named_modules())
    for key in model.state_dict():
        path, _, tensor = key.rpartition(".")
        assert tensor in tensors
        assert type(modules[path]) in (nn.Conv2d, nn.BatchNorm2d, nn.Linear)


def test_names_of_a_resnet() -> None:
    weights = [name for name, p in CifarResNet(8, 4, 10).named_parameters() if p.dim() > 1]
    assert weights == [
        "conv1.weight",
        *("stage1.0.conv1.weight", "stage1.0.conv2.weight"),
        *("stage2.0.conv1.weight", "stage2.0.conv2.weight", "stage2.0.shortcut.0.weight"),
        *("stage3.0.conv1.weight", "stage3.0.conv2.weight", "stage3.0.shortcut.0.weight"),
        "fc.weight",
    ]


def test_shortcuts_project_where_the_shape_changes() -> None:
    model = CifarResNet(20, 16, 10)
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    assert len(blocks) == 9
    projections = {index: block.shortcut for index, block in enumerate(blocks) if len(block.shortcut)}
    assert sorted(projections) == [3, 6]
    for conv, norm in projections.values():
        assert isinstance(norm, nn.BatchNorm2d)
        assert (conv.kernel_size, conv.stride, conv.bias) == ((1, 1), (2, 2), None)
    x = torch.randn(2, 16, 8, 8)
    with torch.no_grad():
        blocks[0].bn2.weight.zero_()  # the residual branch gives 0: what is left is the shortcut
        assert torch.equal(blocks[0](x), x.relu())


def test_only_the_classifier_has_a_bias() -> None:
    for fields in SMALL:
        layers = [m for m in build(fields).modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        assert [layer.bias is not None for layer in layers] == [False] * (len(layers) - 1) + [True]


@pytest.mark.parametrize("fields", SMALL, ids=str)
def test_batch_norm_momentum(fields: dict[str, Any]) -> None:
    def momenta(model: nn.Module) -> set[float | None]:
        return {module.momentum for module in model.modules() if isinstance(module, nn.BatchNorm2d)}

    assert momenta(build(fields)) == {0.1}
    assert momenta(build(fields, bn_momentum=0.99)) == {0.99}


def test_batch_norm_momentum_of_every_dimension(monkeypatch: pytest.MonkeyPatch) -> None:
    norms = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm2d(2), nn.BatchNorm3d(2))
    monkeypatch.setitem(MODELS, "mobilenet_v1", lambda *_: norms)
    build({"arch": "mobilenet_v1"}, bn_momentum=0.3)
    assert [norm.momentum for norm in norms] == [0.3, 0.3, 0.3]


@pytest.mark.parametrize("fields", SMALL, ids=str)
def test_the_seed_decides_the_weights(fields: dict[str, Any]) -> None:
    first, second = build(fields).state_dict(), build(fields).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
