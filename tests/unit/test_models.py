"""Test the models: shapes, names of parameters, shortcuts and batch norm."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from st3sweep.networks import build_model
from st3sweep.networks.cifar_resnet import Block, CifarResNet
from st3sweep.networks.flops import layer_costs
from st3sweep.networks.mobilenet_v1 import MobileNetV1Config
from st3sweep.networks.torchvision_names import NETWORKS, known_network, smallest_image
from st3sweep.networks.wide_resnet import Block as WideBlock
from st3sweep.networks.wide_resnet import WideResNet
from st3sweep.trial.model import ModelConfig

SMALL: list[dict[str, Any]] = [
    {"arch": "cifar_resnet", "depth": 14, "width": 5},
    {"arch": "mobilenet_v1", "width": 0.25, "stem_stride": 1},
    {"arch": "mobilenet_v1", "width": 0.25},
    {"arch": "vgg11"},
    {"arch": "vgg_small"},
    {"arch": "wide_resnet", "depth": 16, "width": 1},
    {"arch": "resnet50"},
]
TORCHVISION: list[dict[str, Any]] = [
    {"arch": "torchvision", "network": network} for network in ("mobilenet_v3_small", "regnet_y_400mf", "googlenet")
]
TIMM: list[dict[str, Any]] = [{"arch": "timm", "name": "convnext_atto"}]  # and in test_timm.py


def build(fields: dict[str, Any], classes: int = 7, channels: int = 3, **settings: float) -> nn.Module:
    torch.manual_seed(0)
    return build_model(ModelConfig.parse(fields), classes, channels, **settings)


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
        blocks[0].bn2.weight.zero_()  # the residual branch gives 0: only the shortcut is left
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
    monkeypatch.setattr(MobileNetV1Config, "build", lambda *_: norms)
    build({"arch": "mobilenet_v1"}, bn_momentum=0.3)
    assert [norm.momentum for norm in norms] == [0.3, 0.3, 0.3]


@pytest.mark.parametrize("fields", SMALL, ids=str)
def test_the_seed_decides_the_weights(fields: dict[str, Any]) -> None:
    first, second = build(fields).state_dict(), build(fields).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


# -- every model trains ------------------------------------------------------------------------------------------


def test_every_arch_is_tried() -> None:
    assert {fields["arch"] for fields in [*SMALL, *TORCHVISION, *TIMM]} == set(ModelConfig.registered)


@pytest.mark.long
@pytest.mark.parametrize("fields", [*SMALL, *TORCHVISION], ids=str)
def test_every_weight_gets_a_gradient(fields: dict[str, Any]) -> None:
    model = build(fields).train()
    logits = model(torch.randn(4, 3, 32, 32))
    assert isinstance(logits, torch.Tensor)  # without outputs of an auxiliary classifier
    assert logits.shape == (4, 7)
    nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 3])).backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None or not gradient.isfinite().all()] == []


@pytest.mark.parametrize(
    "fields",
    [{"arch": "wide_resnet", "depth": 10, "width": 1, "dropout": 0.5}, TORCHVISION[0]],
    ids=lambda fields: fields["arch"],
)
def test_dropout_follows_the_seed_and_only_in_training(fields: dict[str, Any]) -> None:
    model, images = build(fields), torch.randn(4, 3, 32, 32)

    def logits(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return model(images)

    model.train()
    assert torch.equal(logits(1), logits(1))
    assert not torch.allclose(logits(1), logits(2))
    model.eval()
    assert torch.equal(logits(1), logits(2))


# -- the models one by one ---------------------------------------------------------------------------------------


def test_dropout_of_a_wide_resnet_drops_channels_before_the_second_convolution() -> None:
    block = WideBlock(8, 8, 1, 0.5).train()
    seen: list[torch.Tensor] = []
    block.conv2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    torch.manual_seed(0)
    block(torch.randn(8, 8, 4, 4))
    dropped = (seen[0] == 0).all(dim=(2, 3))  # (B, C)
    assert 16 <= int(dropped.sum()) <= 48  # about half of 64, as whole channels
    assert bool((seen[0][~dropped] > 0).any(dim=1).any(dim=1).all())


def test_a_wide_resnet_starts_with_a_bare_convolution_and_ends_with_a_norm() -> None:
    model = WideResNet(16, 2, 10)
    conv, first = model.conv1, model.stage1[0]
    assert isinstance(first, WideBlock)
    x = torch.randn(2, 3, 8, 8)
    seen: list[torch.Tensor] = []
    first.bn1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(x)
    assert torch.equal(seen[0], conv(x))  # neither norm nor activation between
    assert model.bn.num_features == model.fc.in_features == 128
    projections = [
        name for name, module in model.named_modules() if name.endswith("shortcut") and list(module.parameters())
    ]
    assert projections == ["stage1.0.shortcut", "stage2.0.shortcut", "stage3.0.shortcut"]


@pytest.mark.parametrize(("arch", "side"), [("vgg11", 1), ("vgg_small", 4)])
def test_resolution_of_vgg(arch: str, side: int) -> None:
    model = build({"arch": arch})
    assert isinstance(model.features, nn.Module)
    assert model.features(torch.randn(2, 3, 32, 32)).shape[2:] == (side, side)
    for conv, norm in zip(model.features, list(model.features)[1:], strict=False):
        assert isinstance(norm, nn.BatchNorm2d) == isinstance(conv, nn.Conv2d)


def test_resnet50_is_that_of_torchvision() -> None:
    """Weights are equal and in the same order, so that either's checkpoints load into the other."""
    ours, theirs = (build(fields) for fields in ({"arch": "resnet50"}, _torchvision("resnet50")))
    a, b = ours.state_dict(), theirs.state_dict()
    assert list(a) == list(b)
    assert all(torch.equal(a[name], b[name]) for name in a)
    x = torch.randn(2, 3, 64, 64)
    assert torch.allclose(ours.eval()(x), theirs.eval()(x), rtol=0, atol=1e-4)
    assert {m.conv2.stride for m in ours.modules() if hasattr(m, "conv2")} == {(1, 1), (2, 2)}
    assert {m.conv1.stride for m in ours.modules() if hasattr(m, "conv2")} == {(1, 1)}


# -- torchvision -------------------------------------------------------------------------------------------------


def _torchvision(network: str) -> dict[str, Any]:
    return {"arch": "torchvision", "network": network}


def test_the_names_are_those_of_torchvision() -> None:
    """Detects models that a newer torchvision adds or removes."""
    models = pytest.importorskip("torchvision.models")
    attention = {name for name in models.list_models(module=models) if name.startswith(("vit_", "swin_", "maxvit_"))}
    assert len(attention) >= 12
    assert set(NETWORKS) == set(models.list_models(module=models)) - attention
    for name in attention:
        with pytest.raises(ValueError, match="without attention"):
            known_network(name)


def test_torchvision_takes_three_channels() -> None:
    with pytest.raises(ValueError, match=r"torchvision's mobilenet_v2 takes images of 3 channels \(got 1\)"):
        build(_torchvision("mobilenet_v2"), channels=1)
    assert build({"arch": "resnet50"}, channels=1)(torch.randn(2, 1, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("network", ["alexnet", "densenet121", "squeezenet1_1", "resnet18"])
def test_the_smallest_image_that_a_network_of_torchvision_takes(network: str) -> None:
    model, pixels = build(_torchvision(network)), smallest_image(network)
    assert all(cost.macs > 0 for cost in layer_costs(model, (3, pixels, pixels)))
    if pixels > 1:
        with pytest.raises(RuntimeError):
            layer_costs(model, (3, pixels - 1, pixels - 1))


def test_names_in_the_results() -> None:
    def name(**fields: Any) -> str:
        return ModelConfig.parse(fields).label

    assert name(arch="vgg11") == "vgg11"
    assert name(arch="torchvision", network="vgg11") == "torchvision_vgg11"
    # One model, with one row of weight decays, under both names.
    assert name(arch="resnet50") == name(arch="torchvision", network="resnet50") == "resnet50"
    assert name(arch="wide_resnet") == "wide_resnet34x2"
    assert name(arch="wide_resnet", depth=28, width=10, dropout=0.3) == "wide_resnet28x10_d0.3"
