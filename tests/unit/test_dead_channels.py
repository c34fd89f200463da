"""Test that removing dead channels leaves a smaller network with the same logits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from st3sweep.export.dead_channels import remove_dead_channels
from st3sweep.export.folding import fold_batch_norms, traced
from st3sweep.networks.cifar_resnet import CifarResNet
from st3sweep.networks.mobilenet_v1 import MobileNetV1
from st3sweep.networks.vgg import VGG, VGG_SMALL
from st3sweep.networks.wide_resnet import WideResNet
from st3sweep.sparse.method import prunable
from st3sweep.util.errors import UserError

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet20": lambda: CifarResNet(20, 4, 10, 3),
    "mobilenet": lambda: MobileNetV1(10, 3, 0.25, 1),
    "vgg": lambda: VGG(VGG_SMALL, 10, 3),
    "wide_resnet": lambda: WideResNet(10, 1, 10, 3),  # batch norms before the convolutions, which do not fold
}
SHAPE = (3, 16, 16)


@torch.no_grad()
def randomised(model: nn.Module) -> nn.Module:
    """Give batch norms scales and shifts of both signs, a few of them zero."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.normal_()
            module.weight[torch.rand_like(module.weight) < 0.05] = 0.0
            module.bias.normal_().sub_(0.3)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    return model.eval()


@torch.no_grad()
def pruned(model: nn.Module, density: float, filters: float) -> nn.Module:
    """Keep each weight with probability ``density``, and each filter that is not a classifier's with ``filters``."""
    for name, weight in prunable(model).items():
        weight.mul_(torch.rand_like(weight) < (1.0 if weight[0].numel() < 10 else density))
        if name != "fc.weight":
            weight.mul_((torch.rand(len(weight)) < filters).view(-1, *[1] * (weight.dim() - 1)))
    return model


@torch.no_grad()
def check_same(model: nn.Module, shape: tuple[int, int, int] = SHAPE) -> tuple[nn.Module, int]:
    """Remove the dead channels of ``model``, require the same logits, and return what is left and how many went."""
    graph = fold_batch_norms(traced(model))
    x = torch.randn(3, *shape)
    expected = model(x)
    before = sum(weight.numel() for weight in prunable(graph).values())
    removed = remove_dead_channels(graph, shape)
    assert (graph(x) - expected).abs().max() <= 1e-5 * max(1.0, expected.abs().max())
    assert (sum(weight.numel() for weight in prunable(graph).values()) < before) == (removed > 0)
    return graph, removed


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=12)
@given(seed=st.integers(0, 10_000), density=st.sampled_from([0.05, 0.2, 0.6]), filters=st.sampled_from([0.4, 0.8, 1.0]))
def test_logits_stay_the_same(name: str, seed: int, density: float, filters: float) -> None:
    torch.manual_seed(seed)
    _, removed = check_same(pruned(randomised(NETWORKS[name]()), density, filters))
    if filters == 0.4 and name != "wide_resnet":
        assert removed > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_a_dense_network_stays_whole(name: str) -> None:
    torch.manual_seed(0)
    model = NETWORKS[name]().eval()
    graph = fold_batch_norms(traced(model))
    assert remove_dead_channels(graph, SHAPE) == 0


def chain(padding: int, bias: float, last: int = 0) -> nn.Sequential:
    """Two convolutions of 4 channels; channel 1 of the first has a zero filter and the given ``bias``."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3, padding=padding), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2),
    )  # fmt: skip
    with torch.no_grad():
        model[0].weight[1] = 0.0
        model[0].bias[1] = bias
    return model.eval()


@pytest.mark.parametrize(
    ("padding", "bias", "channels"),
    [(0, -0.5, 3), (1, -0.5, 3), (0, 0.0, 3), (1, 0.0, 3), (0, 0.7, 3), (1, 0.7, 4)],
    ids=lambda value: str(value),
)
def test_a_constant_goes_unless_padding_breaks_it(padding: int, bias: float, channels: int) -> None:
    """ReLU makes -0.5 zero; 0.7 is added to the next bias where no zeros are padded, and stays where they are."""
    model = chain(padding, bias)
    graph, removed = check_same(model)
    assert removed == 4 - channels
    first, second = graph.get_submodule("0"), graph.get_submodule("2")
    assert tuple(first.weight.shape) == (channels, 3, 3, 3)
    assert (second.in_channels, second.weight.shape[1]) == (channels, channels)
    if bias == 0.7 and padding == 0:
        assert torch.allclose(second.bias, model[2].bias + 0.7 * model[2].weight[:, 1].sum((1, 2)), atol=1e-6)


def test_a_constant_stays_a_constant_in_the_next_layer_and_reaches_the_classifier() -> None:
    model = chain(padding=0, bias=0.7)
    with torch.no_grad():
        model[2].weight[3] = 0.0
        model[2].weight[3, 1] = 1.0  # reads the constant alone: 9 * 0.7 and its bias
        model[2].bias[3] = 0.1
    graph, removed = check_same(model)
    assert removed == 2
    expected = model[6].bias + model[6].weight[:, 3] * (9 * 0.7 + 0.1)
    assert torch.allclose(graph.get_submodule("6").bias, expected, atol=1e-5)


def test_a_channel_that_no_layer_reads_goes_and_so_do_those_that_only_it_read() -> None:
    model = chain(padding=1, bias=0.7)
    with torch.no_grad():
        model[6].weight[:, 2] = 0.0  # no layer reads channel 2 of the second convolution
        model[2].weight[[0, 1, 3, 4], 0] = 0.0  # which alone reads channel 0 of the first
    graph, removed = check_same(model)
    assert removed == 2
    assert tuple(graph.get_submodule("2").weight.shape) == (4, 3, 3, 3)


class Residual(nn.Module):
    """relu(a(x)) + b(relu(a(x))), read by a padded convolution; ``in_place``: by one without padding."""

    def __init__(self, in_place: bool = False) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 4, 3, padding=1)
        if in_place:
            self.c.padding = (0, 0)
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        z = F.relu(y, inplace=self.in_place) if self.in_place else F.relu(y)
        s = (y if self.in_place else z) + self.b(z)
        return self.c(F.relu(s)).mean((2, 3))


@pytest.mark.parametrize(
    ("dead_a", "dead_b", "gone"), [([1, 4], [1], [1]), ([2], [0, 1], []), ([0, 5], [0, 5], [0, 5])]
)
def test_a_residual_channel_goes_only_if_dead_in_all_addends(
    dead_a: list[int], dead_b: list[int], gone: list[int]
) -> None:
    torch.manual_seed(1)
    model = Residual().eval()
    with torch.no_grad():
        for layer, dead in ((model.a, dead_a), (model.b, dead_b)):
            layer.weight[dead] = 0.0
            layer.bias[dead] = -0.2
    graph, removed = check_same(model)
    assert removed == 2 * len(gone)
    stays = [channel for channel in range(6) if channel not in gone]
    assert torch.equal(graph.get_submodule("c").weight, model.c.weight[:, stays])


def test_a_depthwise_channel_goes_with_the_one_it_reads() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.ReLU(), nn.Conv2d(4, 2, 1)
    ).eval()
    with torch.no_grad():
        model[0].weight[1], model[0].bias[1] = 0.0, -1.0  # zero, and what the filter of channel 1 makes of it: its bias
        model[2].weight[3], model[2].bias[3] = 0.0, 0.4  # a constant, which the last layer, not padded, can take
    graph, removed = check_same(nn.Sequential(model, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval())
    assert removed == 4
    middle = graph.get_submodule("0.2")
    assert (middle.groups, middle.in_channels, tuple(middle.weight.shape)) == (2, 2, (2, 1, 3, 3))


def test_a_layer_keeps_one_channel() -> None:
    model = chain(padding=0, bias=0.3)
    with torch.no_grad():
        model[0].weight.zero_()
    graph, _ = check_same(model)
    assert graph.get_submodule("0").out_channels == 1


class Odd(nn.Module):
    """Operations of which nothing is known: their channels must stay."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.c, self.d, self.e = nn.Conv2d(4, 4, 1), nn.Linear(4, 2), nn.Linear(16, 5)
        self.what = what

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        if self.what == "cat":
            return torch.cat([F.relu(y), y], 1).mean((2, 3))
        if self.what == "shared":
            return self.c(F.relu(self.c(F.relu(y)))).mean((2, 3))
        if self.what == "last dimension":
            return self.e(y).mean((2, 3))
        if self.what == "grouped":
            return self.d(self.c(self.b(F.relu(y))).mean((2, 3)))
        if self.what == "scaled":
            return (y * torch.sigmoid(y.mean((2, 3), keepdim=True))).mean((2, 3))
        if self.what == "positions":
            return F.relu(y).flatten(1)
        return y.mean((1, 2))


@pytest.mark.parametrize("what", ["cat", "shared", "grouped", "scaled", "positions", "means", "last dimension"])
def test_what_is_not_known_stays_whole(what: str) -> None:
    model = Odd(what).eval()
    with torch.no_grad():
        model.a.weight[1], model.a.bias[1] = 0.0, -1.0
        model.b.weight[0, 1] = 0.0  # reads channel 0, and alone does the first filter of c read it
        model.c.weight[0, 1:] = 0.0
    assert check_same(model)[1] == 0


def test_what_is_overwritten_in_place_stays_right() -> None:
    torch.manual_seed(2)
    model = Residual(in_place=True).eval()
    with torch.no_grad():
        for layer, bias in ((model.a, -0.2), (model.b, 0.5)):
            layer.weight[[0, 3]] = 0.0
            layer.bias[[0, 3]] = bias  # the sum is 0.5, not 0.3: ReLU has overwritten -0.2
    check_same(model)


def test_a_channel_joined_with_the_input_stays() -> None:
    class WithInput(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(x + self.a(x)).mean((2, 3))

    model = WithInput().eval()
    with torch.no_grad():
        for layer in (model.a, model.b):
            layer.weight[:, 1] = 0.0  # no layer reads channel 1, but the input has it
    assert check_same(model)[1] == 0


def test_folding_leaves_no_batch_norm_and_keeps_what_another_layer_reads() -> None:
    torch.manual_seed(0)
    model = randomised(CifarResNet(8, 4, 10, 3))
    graph = fold_batch_norms(traced(model))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in graph.modules())
    x = torch.randn(2, *SHAPE)
    assert torch.allclose(graph(x), model(x), rtol=1e-4, atol=1e-4)
    assert isinstance(model.bn1, nn.BatchNorm2d), "the model itself stays"

    class ReadTwice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return self.norm(y) + y

    twice = randomised(ReadTwice())
    graph = fold_batch_norms(traced(twice))
    assert any(isinstance(module, nn.BatchNorm2d) for module in graph.modules())
    assert torch.allclose(graph(x), twice(x), atol=1e-6)


def test_a_network_without_a_graph_is_an_error() -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(UserError, match=r"^Branching cannot be traced by torch\.fx \(TraceError: "):
        traced(Branching())
