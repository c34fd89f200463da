"""Test the Python API: light imports, own modules and data, and the core in a loop of the reader's own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import typer
from compare import thresholds_of
from torch import nn

import st3sweep
from st3sweep.cli import app
from st3sweep.data.own import own_splits
from st3sweep.data.records import DataError, Splits
from st3sweep.training.batches import training_batches
from st3sweep.training.layout import fastest_layout
from st3sweep.training.loop import start
from st3sweep.training.optim import classification_loss, optimisation_step
from st3sweep.training.world import World
from st3sweep.trial.data import DataConfig
from st3sweep.trial.model import ModelConfig
from st3sweep.trial.recipes import resolve
from st3sweep.trial.registry import Registered
from st3sweep.trial.settings import TrialSettings
from st3sweep.trial.sparsity import MethodConfig

TinyTrial = Callable[..., TrialSettings]
TRIAL: dict[str, Any] = {"train": {"epochs": 3, "batch_size": 16}, "sparsity": {"method": "st3", "target": 0.8}}
CIFAR_RESNET = {"model": {"arch": "cifar_resnet", "depth": 8, "width": 4}}


@pytest.fixture(autouse=True)
def _registry_as_before() -> Iterator[None]:
    kinds: list[type[Registered]] = [ModelConfig, DataConfig, MethodConfig]
    before = [dict(kind.registered) for kind in kinds]
    yield
    for kind, known in zip(kinds, before, strict=True):
        kind.registered.clear()
        kind.registered.update(known)
    TrialSettings.model_rebuild(force=True)


class Small(nn.Module):
    """A network of a user: one convolution and a classifier."""

    def __init__(self, classes: int = 3, channels: int = 1):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(channels, 8, 3, padding=1), nn.Linear(8, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(F.relu(self.conv(x)).mean((2, 3)))


def stripes(images: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return uint8 (N, 1, 8, 8) of horizontal, vertical and no stripes, with noise, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % 3
    pattern = torch.zeros(3, 8, 8)
    pattern[0, ::2], pattern[1, :, ::2] = 200.0, 200.0
    noise = 50 * torch.rand(images, 1, 8, 8, generator=generator)
    return (pattern[labels][:, None] + noise).to(torch.uint8), labels


def test_importing_the_package_is_light() -> None:
    code = """
import sys, time
began = time.perf_counter()
import st3sweep
seconds = time.perf_counter() - began
heavy = {"torch", "ray", "optuna", "pandas", "pydantic"} & set(sys.modules)
names = set(st3sweep.__all__) - set(dir(st3sweep))
run = st3sweep.load_run
heavier = {"torch", "ray", "optuna", "pandas"} & set(sys.modules)
print(heavy, names, heavier)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set() set() set()\n"


def test_every_command_has_a_twin() -> None:
    """A function of the package, or a method of a run."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    missing = set(commands) - set(st3sweep.__all__) - set(dir(st3sweep.Run))
    assert missing == {"results", "pareto", "data"}, "Run.trials and the other tables; front; pack"


def test_models_are_those_of_the_papers() -> None:
    table = st3sweep.models().set_index("network")
    assert table["agrees"].all()
    assert table.loc["ResNet-50", "weights"] == table.loc["ResNet-50", "published_weights"] == 25_502_912


def test_every_name_of_the_api_exists_and_is_documented() -> None:
    for name in st3sweep.__all__:
        assert name == "__version__" or getattr(st3sweep, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        st3sweep.nothing  # noqa: B018


def test_an_own_module_trains_on_own_tensors(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Small()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    data = stripes(96, 0), stripes(48, 1), stripes(48, 2)
    trial = {**TRIAL, "train": {"epochs": 20, "batch_size": 16}}
    trained = st3sweep.train(trial, model=net, data=data, folder=tmp_path / "run", progress=False)
    assert trained.status == "finished"
    assert trained.val_top1 is not None
    assert trained.val_top1 > 90
    assert trained.test_top1 is not None
    assert trained.test_top1 > 90
    assert len(trained.epochs) == 20
    assert all(map(torch.equal, net.state_dict().values(), before.values())), "a copy is trained"
    assert trained.model is not None
    zeros = sum(int((weight == 0).sum()) for weight in st3sweep.prunable(trained.model).values())
    count = sum(weight.numel() for weight in st3sweep.prunable(trained.model).values())
    assert zeros / count == pytest.approx(trained.sparsity)
    assert trained.sparsity == pytest.approx(0.8, abs=0.02)
    images, labels = stripes(48, 1)
    pixels = data[0][0].float() / 255
    with torch.no_grad():
        outputs = trained.model((images.float() / 255 - pixels.mean()) / pixels.std(correction=0))
    assert 100 * float((outputs.argmax(1) == labels).float().mean()) == pytest.approx(trained.val_top1)
    run = st3sweep.load_run(tmp_path / "run") if (tmp_path / "run" / "resolved.yaml").exists() else None
    assert run is None, "a single trial is no sweep"


def test_training_starts_from_the_weights_that_are_given() -> None:
    torch.manual_seed(0)
    net, data = Small(), (stripes(48, 0), stripes(24, 1), None)
    trial = {**TRIAL, "optim": {"lr": 1e-12}, "sparsity": {"method": "dense"}, "train": {"epochs": 1, "batch_size": 16}}
    trained = st3sweep.train(trial, model=net, data=data, progress=False)
    assert trained.test_top1 is None
    assert trained.model is not None
    for name, tensor in trained.model.state_dict().items():
        torch.testing.assert_close(tensor, net.state_dict()[name])


def test_the_digest_tells_modules_and_data_apart() -> None:
    from st3sweep.commands.train_own import _registered_data, _registered_model

    def digest(net: nn.Module, seed: int) -> str:
        settings = {**TRIAL, "model": {"arch": _registered_model(net)}}
        with _registered_data((stripes(48, seed), None, None)) as dataset:
            return resolve({**settings, "data": {"dataset": dataset}}).digest()

    torch.manual_seed(0)
    first, second = Small(), Small()
    found = [digest(first, 0), digest(first, 0), digest(second, 0), digest(first, 1)]
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_own_data_are_registered_until_the_trial_ends() -> None:
    """Afterwards no space can name them by accident, after an error either."""
    wide, whole = (torch.zeros(9, 1, 8, 4), torch.zeros(9).long()), stripes(48, 0)
    with pytest.raises(DataError, match="must be square"):
        st3sweep.train({**TRIAL, **CIFAR_RESNET}, data=(wide, None, None), progress=False)
    assert "own" not in DataConfig.registered
    trial = {**TRIAL, **CIFAR_RESNET, "train": {"epochs": 1, "batch_size": 16}}
    assert st3sweep.train(trial, data=(whole, None, None), progress=False).status == "finished"
    assert "own" not in DataConfig.registered
    with pytest.raises(st3sweep.SpecError, match=r"data\.dataset: is 'own', allowed: cifar10, cifar100, digits, image"):
        st3sweep.train({**trial, "data": {"dataset": "own"}})


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (Small(classes=2), (stripes(48, 0), None, None), r"model: Small returns \(1, 2\).*have 3 classes"),
        (None, (stripes(48, 0),), r"data\.dataset: expected \(train, validation, test\).*a tuple of 1"),
        (None, ((stripes(9, 0)[0], torch.zeros(8)), None, None), r"train labels must be \(9,\)"),
        (None, ((stripes(9, 0)[0], torch.zeros(9)), None, None), "train labels must be whole numbers from 0"),
        (None, ((torch.zeros(9, 1, 8, 4), torch.zeros(9).long()), None, None), "must be square"),
        (None, ((torch.zeros(9, 8, 8), torch.zeros(9).long()), None, None), r"must be \(N, C, H, W\)"),
        (None, (None, stripes(9, 0), None), "no training part"),
        (None, (3, None, None), r"train: expected \(images, labels\) or an indexed dataset"),
    ],
)
def test_what_does_not_fit_is_said_in_a_line(model: nn.Module | None, data: Any, message: str) -> None:
    trial = {**TRIAL, **CIFAR_RESNET} if model is None else TRIAL
    with pytest.raises((st3sweep.UserError, st3sweep.SpecError, DataError), match=message) as caught:
        st3sweep.train(trial, model=model, data=data, progress=False)
    assert "\n" not in str(caught.value)


def test_an_empty_part_of_the_trial_is_no_second_model() -> None:
    trial = {**TRIAL, "model": None, "data": None, "sparsity": {"method": "dense"}}
    data = (stripes(48, 0), stripes(24, 1), None)
    assert st3sweep.train(trial, model=Small(), data=data, progress=False).status == "finished"


def test_a_model_given_twice_is_refused() -> None:
    with pytest.raises(st3sweep.UserError, match="model: is given as an argument and in the trial"):
        st3sweep.train({**TRIAL, "model": {"arch": "cifar_resnet"}}, model=Small(), data=(stripes(9, 0), None, None))


class Pictures(torch.utils.data.Dataset[tuple[Any, int]]):
    """A dataset that is indexed, with Pillow's pictures."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from PIL import Image

        return Image.fromarray(np.full((4, 4, 3), [10 * index, 0, 255], np.uint8)), index % 3


def test_an_indexed_dataset_of_pictures() -> None:
    class Config(DataConfig):
        validation: int = 4

    splits: Splits = own_splits((Pictures(), None, Pictures()), Config(dataset="own"))
    assert (len(splits.train), len(splits.validation), splits.num_classes) == (8, 4, 3)
    assert not set(splits.train.sample_ids.tolist()) & set(splits.validation.sample_ids.tolist())
    image = splits.train.fetch(torch.tensor([2]), 0, 0, True)[0]
    row = int(splits.train.sample_ids[2])
    assert image.dtype == torch.uint8
    assert image[:, 0, 0].tolist() == [10 * row, 0, 255]
    assert splits.train.labels[2] == row % 3


def test_registered_functions_are_settings() -> None:
    @st3sweep.register_model("small")
    def build(num_classes: int, channels: int, width: int = 8, wide: bool = False) -> nn.Module:
        """A net."""
        return Small(num_classes, channels)

    @st3sweep.register_dataset("stripes")
    def load(images: int, seed: int = 0) -> Any:
        return stripes(images, seed), stripes(24, 1), None

    @st3sweep.register_method("mine")
    def make(weights: Any, trial: TrialSettings, target: float = 0.5) -> st3sweep.Method:
        return st3sweep.ST3(weights, target=target)

    settings = {"model": {"arch": "small", "width": 4}, "data": {"dataset": "stripes", "images": 48}, **TRIAL}
    trial = resolve({**settings, "sparsity": {"method": "mine", "target": 0.7}})
    assert isinstance(trial.model.build(3, 1), Small)
    assert (trial.data.image_size, trial.data.channels, trial.data.inspect().train) == (8, 1, 48)
    assert trial.sparsity.final_sparsity == 0.7
    trained = st3sweep.train({**settings, "sparsity": {"method": "mine", "target": 0.7}}, progress=False)
    assert trained.sparsity == pytest.approx(0.7, abs=0.02)

    for wrong, message in (
        ({"model": {"arch": "small", "width": "x"}}, r"model\.width: must be a whole number \(got 'x'\)"),
        ({"model": {"arch": "small", "wdth": 4}}, "model.wdth: unknown field.*width"),
        ({"data": {"dataset": "stripes"}}, "data.images: is missing"),
    ):
        with pytest.raises(st3sweep.SpecError, match=message):
            st3sweep.train({**settings, **wrong}, progress=False)


def _unknown_type(width: Wdth) -> None:  # type: ignore[name-defined]  # noqa: F821
    pass


@pytest.mark.parametrize(
    ("name", "function", "message"),
    [
        ("cifar_resnet", lambda: None, "the arch cifar_resnet is registered already"),
        ("mine", lambda **settings: settings, r"\*\*settings cannot be a setting; name each parameter"),
        ("mine", lambda arch: arch, "arch is the name of a field that every arch has"),
        ("", lambda: None, "a arch needs a name"),
        ("mine", _unknown_type, "arch mine: width: Wdth is no type here"),
    ],
)
def test_a_function_that_cannot_be_registered(name: str, function: Callable[..., Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        st3sweep.register_model(name, function)


def test_an_own_loop_has_the_thresholds_and_weights_of_the_package(tiny_trial: TinyTrial, digits: Splits) -> None:
    """Step by step in float64: the README's loop against the step of ``fit``, on ResNet-20."""
    trial = tiny_trial(
        model={"depth": 20, "width": 4},
        optim={"lr": 0.05, "weight_decay": {"kind": "constant", "value": 0.0}},
        sparsity={"ramp": {"start": 0.0, "end": 0.6, "power": 3}},
    )  # fmt: skip
    state = start(trial, World(), digits)
    state.model.double()
    torch.manual_seed(trial.seed)
    model = trial.model.build(10, 1).double().to(memory_format=fastest_layout(state.model, torch.device("cpu")))
    weights = list(st3sweep.prunable(model).values())
    method = st3sweep.ST3(weights, target=0.8, start=0.0, end=0.6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    batches = [batch for epoch in range(3) for batch in training_batches(trial, World(), digits, epoch)]
    for group in state.optimizer.param_groups:
        group["lr"], group["weight_decay"] = 0.05, 0.0
    state.model.train()
    for step, (x, y) in enumerate(batches, 1):
        progress = step / len(batches)
        loss_of = classification_loss(state.model, x.double(), y, label_smoothing=0.0, precision="fp32")
        optimisation_step(
            state.model, state.weights, state.method, state.optimizer, loss_of, progress=progress, clip_norm=3.0
        )

        optimizer.zero_grad()
        with st3sweep.sparse_weights(weights, method):
            F.cross_entropy(model(x.double()), y).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 3.0)
        optimizer.step()
        method.refresh(progress, weights)

        assert thresholds_of(method) == thresholds_of(state.method)
        assert all(map(torch.equal, weights, state.weights))
    st3sweep.harden(weights, method)
    zeros = sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)
    assert zeros == pytest.approx(0.8, abs=1e-3)


def test_the_twins_of_the_other_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = st3sweep.cost("cifar_resnet", {"depth": 20})
    assert (found.macs_dense, found.gflops_dense) == (40_813_184, 40_813_184 / 1e9)
    checks = {check.name: check.state for check in st3sweep.doctor(storage=tmp_path)}
    assert checks["torch"] == "ok"
    st3sweep.register_model("small", lambda num_classes: Small(num_classes))
    assert "small" in str(st3sweep.schema()["properties"]["trial"])
    space = {
        "schema": "st3sweep/v1",
        "name": "study",
        "trial": {**TRIAL, "model": {"arch": "small"}, "data": {"dataset": "digits"}, "sparsity": {"method": "st3"}},
        "search": {"sparsity.target": {"choice": [0.5, 0.9]}},
        "searcher": {"sampler": "grid"},
    }
    st3sweep.validate(space)
    for wrong, said in (
        ({"train.epochs": 0}, "overrides train.epochs=0: train.epochs: must be at least 1 (got 0)"),
        ({"train.epoch": 3}, "overrides train.epoch=3: train.epoch: unknown field; did you mean train.epochs?"),
        ({"search.sparsity.target": {"choice": [0.5, 1.5]}}, 'overrides search.sparsity.target={"choice": [0.5, 1.5]}: '
         "search.sparsity.target: can become 1.5: must be below 1"),
        ({"train.epochs": "[3"}, "overrides train.epochs=[3: train.epochs: not YAML: expected ',' or ']', but got "
         "'<stream end>'"),
    ):  # fmt: skip
        for call in (st3sweep.validate, st3sweep.plan):
            with pytest.raises(st3sweep.SpecError) as raised:
                call(space, wrong)
            assert str(raised.value) == said
    with pytest.raises(st3sweep.SpecError, match=r"^overrides sparsity\.target=2: sparsity\.target: must be below 1"):
        st3sweep.train(space["trial"], overrides={"sparsity.target": 2}, progress=False)
    with pytest.raises(st3sweep.UserError, match=r"^overrides: Object of type set is not JSON serializable"):
        st3sweep.validate(space, {"train.epochs": {1}})
    with pytest.raises(st3sweep.UserError, match=r"^settings depth=9: must be 6n\+2: 8 or 14"):
        st3sweep.cost("cifar_resnet", {"depth": 9})
    with pytest.raises(st3sweep.UserError, match="digits needs no pack"):
        st3sweep.pack(space, tmp_path / "pack")
    with pytest.raises(st3sweep.SpecError, match="a set is no value of a setting"):
        st3sweep.validate({**space, "name": {1, 2}})
    assert list(tmp_path.iterdir()) == []


def test_the_plan_says_where_a_value_is_from(capsys: pytest.CaptureFixture[str]) -> None:
    space = {
        "schema": "st3sweep/v1",
        "name": "study",
        "trial": {
            **TRIAL,
            "model": {"arch": "vgg_small"},
            "data": {"dataset": "digits"},
            "sparsity": {"method": "st3"},
        },
        "search": {"sparsity.target": {"choice": [0.5, 0.9]}},
        "searcher": {"sampler": "grid"},
    }
    st3sweep.plan(space, {"optim.lr": 0.3})
    [line] = [line for line in capsys.readouterr().out.splitlines() if "lr: 0.3" in line]
    assert line.split()[-1] == "overrides"


def test_a_run_of_an_earlier_version_opens() -> None:
    run = st3sweep.load_run(Path(__file__).parents[1] / "data" / "run_0_1")
    assert run.state == "interrupted"
    assert run.status()["state"] == "interrupted"
    assert len(run.trials) == 3
    assert set(run.front()["trial"]) <= set(run.trials["trial"])
    assert run.pick()["trial"] in set(run.front()["trial"])
    assert len(run.epochs) > len(run.trials)
    assert len(run.plot().axes) >= 1
    with pytest.raises(st3sweep.UserError, match="meets the limits"):
        run.pick(max_gflops=1e-9)
    with pytest.raises(st3sweep.SpecError, match=r"^overrides budget\.trials=0: budget\.trials: must be at least 1"):
        run.resume(overrides={"budget.trials": 0}, trials=None, extend=True)
    with pytest.raises(st3sweep.UserError, match="not the folder of a run"):
        st3sweep.load_run("nowhere")
