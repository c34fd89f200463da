"""Test training that starts from trained weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor

from st3sweep import data
from st3sweep.networks import build_model
from st3sweep.networks.pretrained import load_pretrained
from st3sweep.sparse.method import prunable
from st3sweep.training.loop import fit, start
from st3sweep.training.world import World
from st3sweep.trial.model import ModelConfig
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.errors import UserError
from tests.contracts.settings import METHODS

TinyTrial = Callable[..., TrialSettings]


@pytest.fixture
def state(tiny_trial: TinyTrial) -> dict[str, Tensor]:
    torch.manual_seed(7)
    return build_model(tiny_trial().model, 10, 1).state_dict()


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_training_starts_from_the_file(
    suffix: str, state: dict[str, Tensor], tiny_trial: TinyTrial, digits: data.Splits, tmp_path: Path
) -> None:
    file = tmp_path / f"trained.{suffix}"
    save_file(state, file) if suffix == "safetensors" else torch.save(state, file)
    trial = tiny_trial(model={"weights": str(file)})
    begun = start(trial, World(), digits).model.state_dict()
    assert all(torch.equal(begun[name], tensor) for name, tensor in state.items())
    new = start(tiny_trial(model={"weights": str(file), "classifier": "new"}), World(), digits).model.state_dict()
    same = {name for name, tensor in state.items() if torch.equal(new[name], tensor)}
    assert set(state) - same == {"fc.weight", "fc.bias"}


def test_another_number_of_classes_needs_a_new_classifier(
    tiny_trial: TinyTrial, digits: data.Splits, tmp_path: Path
) -> None:
    save_file(build_model(tiny_trial().model, 7, 1).state_dict(), tmp_path / "of-seven.safetensors")
    weights = {"weights": str(tmp_path / "of-seven.safetensors")}
    with pytest.raises(UserError, match=r"fc.weight is \(7, \d+\), the model's is \(10, \d+\); classifier: new leaves"):
        start(tiny_trial(model=weights), World(), digits)
    start(tiny_trial(model={**weights, "classifier": "new"}), World(), digits)


def test_weights_of_torchvision_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchvision keeps them once they are downloaded; with a new classifier, all others are the same."""
    from torchvision.models import get_model, get_model_weights  # takes seconds, which other tests need not spend

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = "shufflenet_v2_x0_5"
    torch.manual_seed(3)
    trained = get_model(name).state_dict()
    file = tmp_path / "hub" / "checkpoints" / get_model_weights(name)["IMAGENET1K_V1"].url.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    torch.save(trained, file)
    config = {"arch": "torchvision", "network": name, "weights": "IMAGENET1K_V1"}
    for classes, changes in ((1000, {}), (10, {"classifier": "new"})):
        settings = ModelConfig.parse({**config, **changes})
        model = build_model(settings, classes, 3)
        load_pretrained(model, settings)
        same = {key for key, value in model.state_dict().items() if torch.equal(value, trained[key])}
        assert set(trained) - same == (set() if classes == 1000 else {"fc.weight", "fc.bias"})
    with pytest.raises(UserError, match=r"^model\.weights: V3: torchvision has IMAGENET1K_V1 of shufflenet_v2_x0_5$"):
        load_pretrained(model, ModelConfig.parse({**config, "weights": "V3"}))


def test_the_digest_has_the_content_and_not_the_path(
    state: dict[str, Tensor], tiny_trial: TinyTrial, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        save_file(state, tmp_path / f"{name}.safetensors")
    save_file({name: tensor + 1 for name, tensor in state.items()}, tmp_path / "c.safetensors")
    found = [tiny_trial(model={"weights": str(tmp_path / f"{name}.safetensors")}).digest() for name in "abc"]
    assert found[0] == found[1]
    assert len({tiny_trial().digest(), *found}) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {name: s[name] for name in s if name != "conv1.weight"}, "has no conv1.weight$"),
        (lambda s: {**s, "more": torch.zeros(1)}, "has more, which the model has not$"),
        (lambda s: {**s, "conv1.weight": torch.zeros(4, 1, 5, 5)}, r"conv1.weight is \(4, 1, 5, 5\), the model's is"),
    ],
)
def test_what_does_not_fit_is_named(
    change: Callable[[Any], Any], message: str, state: dict[str, Tensor], tiny_trial: TinyTrial, tmp_path: Path
) -> None:
    save_file(change(state), tmp_path / "w.safetensors")
    config = tiny_trial(model={"weights": str(tmp_path / "w.safetensors")}).model
    model = build_model(config, 10, 1)
    with pytest.raises(UserError, match=message):
        load_pretrained(model, config)


@pytest.mark.parametrize("content", [b"", b"text", None])
def test_a_file_that_cannot_be_read(content: bytes | None, tiny_trial: TinyTrial, tmp_path: Path) -> None:
    for suffix in ("safetensors", "pt"):
        file = tmp_path / f"broken.{suffix}"
        if content is not None:
            file.write_bytes(content)
        config = tiny_trial(model={"weights": str(file)}).model
        with pytest.raises(UserError, match=r"model\.weights: .*broken") as caught:
            load_pretrained(build_model(config, 10, 1), config)
        assert "\n" not in str(caught.value)


def test_a_new_classifier_needs_weights(tiny_trial: TinyTrial) -> None:
    with pytest.raises(ValidationError, match=r"has no effect without model\.weights"):
        tiny_trial(model={"classifier": "new"})


RANDOM_MASKS = ("static", "rigl", "granet")


@pytest.mark.parametrize("sparsity", [pytest.param(settings, id=name) for name, settings in METHODS])
def test_each_method_prunes_from_trained_weights_or_says_why_not(
    sparsity: dict[str, Any], state: dict[str, Tensor], tiny_trial: TinyTrial, digits: data.Splits, tmp_path: Path
) -> None:
    save_file(state, tmp_path / "trained.safetensors")
    overrides = {"model": {"weights": str(tmp_path / "trained.safetensors")}, "sparsity": sparsity}
    if sparsity["method"] in RANDOM_MASKS and sparsity.get("initial_density") != 1:
        with pytest.raises(ValidationError, match=r"has no effect with method .* random part of them"):
            tiny_trial(**overrides)
        return
    trial = tiny_trial(**overrides, train={"epochs": 1})
    begun = start(trial, World(), digits)
    names = prunable(begun.model)
    assert all(torch.equal(weight, state[key]) for key, weight in names.items())
    assert fit(trial, World(), lambda _: False, tmp_path / "fit", digits)["status"] == "finished"
