"""Test timm's classifiers by name, and the criteria by which models of other packages are refused."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from wrong_specs import RIGHT

from st3sweep import data
from st3sweep.commands.cost import network_cost
from st3sweep.networks import build_model
from st3sweep.networks import timm as by_name
from st3sweep.networks.convolutional import NO_ATTENTION, why_not_convolutional, without_storage
from st3sweep.networks.flops import layer_costs
from st3sweep.networks.torchvision import torchvision_network
from st3sweep.networks.torchvision_names import NETWORKS, known_network
from st3sweep.space.loading import load_space
from st3sweep.training.loop import fit, start
from st3sweep.training.world import World
from st3sweep.trial.model import ModelConfig
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.errors import SpecError, UserError

TinyTrial = Callable[..., TrialSettings]
needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
ATTENTION = "must consist of conv and linear layers, without attention"
STANDARDISED = "must consist of conv and linear layers that use their weights as they are, without standardising them"


def problem(model: str, tmp_path: Path, search: str = "") -> str:
    """Return what is wrong with a space of ``model``, after the file's name."""
    text = RIGHT.replace("{arch: cifar_resnet, depth: 8, width: 8}", model).replace("search:\n", f"search:\n{search}")
    (tmp_path / "space.yaml").write_text(text)
    with pytest.raises(SpecError) as raised:
        load_space(tmp_path / "space.yaml")
    return str(raised.value).removeprefix(f"{tmp_path / 'space.yaml'}:")


def build(name: str, classes: int = 7, channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return build_model(ModelConfig.parse({"arch": "timm", "name": name}), classes, channels)


# -- which names a space may have --------------------------------------------------------------------------------


def test_without_timm_the_error_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_name, "is_installed", lambda: False)
    said = "5:23: model.name: needs the package timm, which is not installed: pip install 'st3sweep[timm]'"
    assert problem("{arch: timm, name: mobilenetv3_small_100}", tmp_path) == f"{said} (got 'mobilenetv3_small_100')"
    with pytest.raises(UserError, match=r"^mobilenetv3_small_100: unknown model; available are "):
        network_cost("mobilenetv3_small_100", {})


@needs_timm
@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("{arch: timm}", "5:3: model.name: is missing: neither fixed under trial nor searched"),
        ("{arch: timm, name: resnet18, network: resnet18}", "5:39: model.network: has no effect with arch timm, which "
         "has weights, classifier, name"),
        ("{arch: timm, name: mobilenetv3_smal_100}", "5:23: model.name: must be a convolutional classifier of timm; "
         "did you mean mobilenetv3_small_100? (got 'mobilenetv3_smal_100')"),
        ("{arch: timm, name: vit_tiny_patch16_224}", f"5:23: model.name: {ATTENTION} (got 'vit_tiny_patch16_224')"),
        ("{arch: timm, name: nf_resnet26}", f"5:23: model.name: {STANDARDISED} (got 'nf_resnet26')"),
        ("{arch: timm, name: ecaresnet26t}", "5:23: model.name: must consist of conv and linear layers; "
         "layer1.0.se.conv.weight is a weight outside of them (got 'ecaresnet26t')"),
        ("{arch: timm, name: mixer_s16_224}", "5:23: model.name: must be convolutional: this takes images of 224 "
         "pixels only (got 'mixer_s16_224')"),
        ("{arch: timm, name: densenet121}", "5:11: model.arch: timm_densenet121 needs other images, e.g. of 29 pixels; "
         "these have 16"),
    ],
    ids=lambda text: text.partition("name: ")[2][:12],
)  # fmt: skip
def test_a_wrong_name_is_refused_with_its_place(model: str, said: str, tmp_path: Path) -> None:
    assert problem(model, tmp_path) == said


@needs_timm
def test_a_searched_name_is_refused_too(tmp_path: Path) -> None:
    said = problem("{arch: timm}", tmp_path, "  model.name: {choice: [resnet10t, vit_tiny_patch16_224]}\n")
    assert said == f"13:3: search.model.name: can become 'vit_tiny_patch16_224': {ATTENTION}"


@needs_timm
def test_names_of_the_command_cost() -> None:
    """ResNet-18 of either package has the same layers; a name that both have is torchvision's."""
    ours, theirs = network_cost("resnet18", {}), network_cost("resnet18d", {})
    assert (ours.network, theirs.network) == ("torchvision_resnet18", "timm_resnet18d")
    timm18 = layer_costs(build("resnet18", 1000), (3, 224, 224))
    assert [(cost.shape, cost.macs) for cost in timm18] == [
        (cost.shape, cost.macs) for cost in layer_costs(torchvision_network("resnet18", 1000, 3), (3, 224, 224))
    ]
    assert sum(cost.macs for cost in timm18) == ours.macs_dense
    with pytest.raises(UserError, match=f"^vit_tiny_patch16_224: {ATTENTION}"):
        network_cost("vit_tiny_patch16_224", {})
    with pytest.raises(UserError, match=r"did you mean mobilenetv3_small_100\?"):
        network_cost("mobilenetv3_small_10", {})


# -- what they are -----------------------------------------------------------------------------------------------


@needs_timm
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["resnet10t", "convnext_atto", "mobilenetv3_small_050"])
def test_every_weight_gets_a_gradient(name: str, channels: int) -> None:
    model = build(name, channels=channels).train()
    logits = model(torch.randn(4, channels, 32, 32))
    assert logits.shape == (4, 7)
    F.cross_entropy(logits, torch.tensor([0, 1, 2, 3])).backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


@needs_timm
def test_a_size_is_taken_by_the_built_model_where_it_is_allowed() -> None:
    for name, taken, refused in (("densenet121", 29, 28), ("dla60x_c", 32, 33)):
        config, model = ModelConfig.parse({"arch": "timm", "name": name}), build(name)
        assert config.needed_images(taken) is None
        assert model.eval()(torch.randn(1, 3, taken, taken)).shape == (1, 7)
        assert config.needed_images(refused) is not None
        with pytest.raises(RuntimeError):
            model(torch.randn(1, 3, refused, refused))
    assert config.needed_images(33) == "needs other images, e.g. of 63 pixels"


@needs_timm
def test_a_trial_trains_from_a_file_of_weights(tiny_trial: TinyTrial, digits: data.Splits, tmp_path: Path) -> None:
    model = {"arch": "timm", "name": "mobilenetv3_small_050"}
    trial = tiny_trial(train={"epochs": 1}).model_dump(mode="json") | {"model": model}
    spec = TrialSettings.model_validate(trial)
    result = fit(spec, World(), lambda _: False, tmp_path, digits)
    assert result["sparsity"] == pytest.approx(0.8, abs=0.01)
    assert spec.model.label == "timm_mobilenetv3_small_050"

    state = build("mobilenetv3_small_050", channels=1).state_dict()  # of 7 classes
    save_file(state, tmp_path / "seven.safetensors")
    model |= {"weights": str(tmp_path / "seven.safetensors")}
    with pytest.raises(UserError, match=r"classifier.weight is \(7, 1024\), the model's is \(10, 1024\)"):
        start(TrialSettings.model_validate(trial | {"model": model}), World(), digits)
    begun = start(TrialSettings.model_validate(trial | {"model": {**model, "classifier": "new"}}), World(), digits)
    for name, tensor in begun.model.state_dict().items():
        assert torch.equal(tensor, state[name]) != name.startswith("classifier."), name


@needs_timm
def test_the_names_in_the_documentation_are_allowed() -> None:
    page = (Path(__file__).parents[2] / "docs" / "networks.md").read_text(encoding="utf-8")
    names = re.findall(r"arch: timm, name: (\w+)", page)
    assert names == ["mobilenetv3_small_100", "convnext_atto"]
    assert [by_name.known_timm(name) for name in names] == names


@needs_timm
def test_checking_a_name_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert by_name.known_timm("mobilenetv3_small_075") == "mobilenetv3_small_075"
    assert torch.equal(torch.get_rng_state(), before)


@needs_timm
def test_a_classifier_may_be_a_convolution() -> None:
    config, model = ModelConfig.parse({"arch": "timm", "name": "dla60x_c"}), build("dla60x_c")
    assert isinstance(config.classifier_of(model), nn.Conv2d)


# -- the criteria ------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """A convolution, and one more thing."""

    def __init__(self, more: Callable[[Block, Tensor], Tensor] = lambda _, x: x, **parts: Any):
        super().__init__()
        self.conv, self.linear, self.more = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 4), more
        for name, part in parts.items():
            if isinstance(part, nn.Module | nn.Parameter):
                setattr(self, name, part)
            else:
                self.register_buffer(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.more(self, self.conv(x)).mean(dim=(2, 3)))


def _attention(_: Block, x: Tensor) -> Tensor:
    tokens = x.flatten(2)
    return F.scaled_dot_product_attention(tokens, tokens, tokens).reshape(x.shape)


def _standardised(block: Any, x: Tensor) -> Tensor:
    weight = block.second.weight
    return F.conv2d(x, (weight - weight.mean()) / weight.std())


EYE, PIXELS = torch.eye(8)[:, :, None, None], torch.rand(1, 8, 16, 16)
CASES: list[tuple[str, Callable[[], Block], str | None]] = [
    ("plain", lambda: Block(), None),
    ("positions through a linear layer", lambda: Block(lambda b, x: b.linear(x.movedim(1, 3)).movedim(3, 1).repeat(
        1, 2, 1, 1)), None),
    ("gate", lambda: Block(lambda _, x: x * x.mean(dim=(2, 3), keepdim=True).sigmoid()), None),
    ("a scale of each channel", lambda: Block(lambda b, x: x * b.scale, scale=nn.Parameter(torch.ones(8, 1, 1))), None),
    ("norm", lambda: Block(lambda b, x: b.norm(x), norm=nn.BatchNorm2d(8)), None),
    ("fixed filter", lambda: Block(lambda b, x: F.conv2d(x, b.blur), blur=EYE), None),
    ("attention", lambda: Block(_attention), NO_ATTENTION),
    ("product of activations", lambda: Block(lambda _, x: x @ x.transpose(2, 3)), NO_ATTENTION),
    ("standardised weights", lambda: Block(_standardised, second=nn.Conv2d(8, 8, 1)), STANDARDISED),
    ("embedding of positions", lambda: Block(lambda b, x: x + b.position, position=nn.Parameter(PIXELS)),
     "must consist of conv and linear layers; position is a weight outside of them"),
    ("convolution over time", lambda: Block(lambda b, x: b.time(x.flatten(2)).reshape(x.shape),
     time=nn.Conv1d(8, 8, 1)), "must consist of conv and linear layers; time.weight is a weight outside of them"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "why"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_model_is_refused_where_pruning_and_counting_would_miss_something(
    make: Callable[[], Block], why: str | None
) -> None:
    model = make().to("meta")
    assert why_not_convolutional(model, (3, 16, 16)) == why


def _by_the_criteria(name: str) -> str | None:
    from torchvision.models import get_model

    options = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return why_not_convolutional(without_storage(lambda: get_model(name, weights=None, **options)), (3, 224, 224))


def _torchvision_names() -> list[str]:
    models = pytest.importorskip("torchvision.models")
    return list(models.list_models(module=models))


@pytest.mark.parametrize("name", ["convnext_tiny", "regnet_y_400mf", "vit_b_32"])
def test_the_criteria_are_those_of_torchvisions_list(name: str) -> None:
    assert _by_the_criteria(name) == (None if name in NETWORKS else NO_ATTENTION)


@pytest.mark.slow
def test_the_criteria_give_torchvisions_list_exactly() -> None:
    names = _torchvision_names()
    assert {name for name in names if _by_the_criteria(name) is None} == set(NETWORKS)
    for name in set(names) - set(NETWORKS):
        with pytest.raises(ValueError, match=ATTENTION):
            known_network(name)


@pytest.mark.slow
@needs_timm
def test_families_of_timm_are_allowed_or_refused() -> None:
    """The first, middle and last of each family: all without attention are allowed, all made of it refused."""

    def found(family: str) -> list[str | None]:
        names = [name for name in by_name.timm_names() if name.startswith(family)]
        return [by_name._why_not(name) for name in dict.fromkeys([names[0], names[len(names) // 2], names[-1]])]

    for family in (
        "convnext_",
        "densenet1",
        "dla",
        "efficientnet_b",
        "mobilenetv3",
        "regnetx",
        "repvgg",
        "resnet1",
        "vgg",
    ):
        assert set(found(family)) == {None}, family
    for family in ("beit", "cait", "davit", "deit", "levit", "maxvit", "swin", "vit_", "xcit"):
        assert set(found(family)) == {NO_ATTENTION}, family
    for family in ("gmlp", "mixer", "nf_", "eca_resnet"):
        assert None not in found(family), family


def test_a_model_that_cannot_take_an_empty_batch_is_counted() -> None:
    class Reshaping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.linear = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 64, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(self.conv(x).reshape(x.shape[0], -1))

    model = Reshaping()
    with pytest.raises(RuntimeError, match="0 elements"):
        model(torch.empty(0, 3, 8, 8))
    assert [cost.macs for cost in layer_costs(model, (3, 8, 8))] == [4 * 27 * 64, 4 * 64 * 5]
    assert next(model.parameters()).device.type == "cpu"
