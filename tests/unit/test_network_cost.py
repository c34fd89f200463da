"""Test the command ``cost``: a model at given sparsities of its layers, counted by hand, and errors in its file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from st3sweep import cli
from st3sweep.commands.cost import network_cost
from st3sweep.networks.flops import LayerCost
from st3sweep.networks.layer_budget import read_layer_budget

LAYERS = ["conv1", "layer1.0.conv1", "fc"]
HEAD = "layer,sparsity\n"


def cost(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> tuple[str, str]:
    """Return output and errors of the command, whose exit code must be 0 or 2."""
    monkeypatch.setattr(sys, "argv", ["st3sweep", "cost", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    shown = capsys.readouterr()
    assert ended.value.code == (2 if shown.err else 0)
    return shown.out, shown.err


@pytest.fixture
def budget(tmp_path: Path) -> Path:
    return tmp_path / "budget.csv"


@pytest.mark.parametrize(("sparsity", "millions"), [(0.8, 818), (0.9, 409), (0.95, 204)])
def test_uniform_sparsity_of_resnet50(
    sparsity: float, millions: int, budget: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the field's tables, the cost is 4,089,184,256 times the density."""
    budget.write_text(f"{HEAD}*,{sparsity}\n")
    total = cost(capsys, monkeypatch, "resnet50", "--budget", budget)[0].splitlines()[-1]
    assert total.startswith(f"resnet50 at 224 pixels, 1,000 classes: sparsity {sparsity:.4f} of 25,502,912 weights; ")
    assert f"; {millions} M of 4,089 M multiply-accumulates (" in total


def test_a_model_by_hand(budget: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """ResNet-8 on 16 pixels: the first layer has 432 weights at 256 positions, the last 64 x 7; others stay dense."""
    budget.write_text(f"{HEAD}conv1,0.5\nfc,0.25\n")
    where = ("--set", "depth=8", "--image-size", 16, "--classes", 7, "--budget", budget)
    found = json.loads(cost(capsys, monkeypatch, "cifar_resnet", *where, "--json")[0])
    layers = {layer["layer"]: layer for layer in found["layers"]}
    assert layers["conv1"] == {
        "layer": "conv1",
        "shape": "16x3x3x3",
        "weights": 432,
        "sparsity": 0.5,
        "macs_dense": 432 * 256,
        "macs": 432 * 128,
    }
    assert layers["fc"]["macs"] == 336.0
    dense = network_cost("cifar_resnet", {"depth": "8"}, image_size=16, classes=7)
    assert (dense.sparsity, dense.gflops) == (0.0, dense.macs_dense / 1e9)
    assert found["macs"] == dense.macs_dense - 432 * 128 - 112
    assert found["gflops"] == pytest.approx(found["macs"] / 1e9)
    assert found["sparsity"] == pytest.approx((216 + 112) / dense.weights)
    lines = cost(capsys, monkeypatch, "cifar_resnet", *where)[0].splitlines()
    assert lines[0].split() == ["layer", "shape", "weights", "sparsity", "dense", "MMACs", "MMACs"]
    assert lines[1].split() == ["conv1", "16x3x3x3", "432", "0.5000", "0.111", "0.0553"]
    assert len(lines) == 1 + len(found["layers"]) + 2


def test_images_and_classes_are_those_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []

    def costs(model: object, shape: tuple[int, ...]) -> list[LayerCost]:
        shapes.append(shape)
        return [LayerCost("fc", (1, 1), 1, 1)]

    monkeypatch.setattr("st3sweep.commands.cost.layer_costs", costs)
    found = [network_cost(name, {}) for name in ("vgg11", "wide_resnet", "mobilenet_v1", "resnet18")]
    assert shapes == [(3, 32, 32)] * 2 + [(3, 224, 224)] * 2
    assert [one.classes for one in found] == [10, 100, 1000, 1000]
    assert [one.network for one in found] == ["vgg11", "wide_resnet34x2", "mobilenet_v1", "torchvision_resnet18"]


def test_a_budget_names_layers_or_the_rest(budget: Path) -> None:
    budget.write_text("\ufeffsparsity, layer\n\n0.5, fc\n 1,conv1\n")
    assert read_layer_budget(budget, LAYERS) == {"fc": 0.5, "conv1": 1.0}
    budget.write_text(f"{HEAD}fc,0\n*,0.9\n")
    assert read_layer_budget(budget, LAYERS) == {"conv1": 0.9, "layer1.0.conv1": 0.9, "fc": 0.0}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("conv1,0.5\n", ":1: must begin with: layer,sparsity (got conv1,0.5)"),
        ("", ":1: must begin with: layer,sparsity (got an empty file)"),
        (f"{HEAD}cnv1,0.5\n", ":2: cnv1: is no conv or linear layer of the model; did you mean conv1?"),
        (f"{HEAD}\nx,0.5\n", ":3: x: is no conv or linear layer of the model; it has conv1, layer1.0.conv1, fc"),
        (f"{HEAD}fc,90\n", ":2: fc: sparsity must be a fraction from 0 to 1; 90 % is 0.9 (got 90)"),
        (f"{HEAD}fc,-0.1\n", ":2: fc: sparsity must be a fraction from 0 to 1 (got -0.1)"),
        (f"{HEAD}fc,nan\n", ":2: fc: sparsity must be a fraction from 0 to 1 (got nan)"),
        (f"{HEAD}fc,\n", ":2: fc: sparsity must be a fraction from 0 to 1 (got nothing)"),
        (f"{HEAD}fc\n", ":2: must have a layer and a sparsity (got 1 cell)"),
        (f"{HEAD}fc,0.5\nconv1,0.5\nfc,0.5\n", ":4: fc: is given already, in line 2"),
        (f"{HEAD}fc,x\ncnv1,0\n", ":2: fc: sparsity must be a fraction from 0 to 1 (got x)\n{}:3: cnv1: is no conv"),
    ],
)  # fmt: skip
def test_errors_in_a_budget_name_the_line(content: str, said: str, budget: Path) -> None:
    budget.write_text(content)
    with pytest.raises(Exception) as raised:  # noqa: PT011 (the whole text is compared below)
        read_layer_budget(budget, LAYERS)
    assert str(raised.value).startswith(f"{budget}{said.format(budget)}")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["resnet5"], "resnet5: unknown model; available are cifar_resnet, mobilenet_v1, resnet50, vgg11, vgg_small, "
         "wide_resnet, and torchvision's and timm's by name, e.g. resnet18; did you mean resnet50?"),
        (["torchvision"], "torchvision: unknown model; available are cifar_resnet, mobilenet_v1, resnet50, vgg11, "
         "vgg_small, wide_resnet, and torchvision's and timm's by name, e.g. resnet18\n"),
        (["vit_b_16"], "vit_b_16: unknown model; "),
        (["cifar_resnet", "--set", "depth=9"], "--set depth=9: must be 6n+2: 8 or 14"),
        (["cifar_resnet", "--set", "dept=8"], "--set dept=8: cifar_resnet has no such setting; it has: depth 20, "),
        (["resnet50", "--set", "width=8"], "--set width=8: resnet50 has no such setting; it has: none"),
        (["vgg11", "--image-size", "16"], "--image-size 16: vgg11 needs images of at least 32 pixels"),
        (["vgg_small", "--budget", "none.csv"], "none.csv: No such file or directory"),
    ],
)  # fmt: skip
def test_invalid_arguments_are_errors(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, err = cost(capsys, monkeypatch, *arguments)
    assert out == ""
    assert err.startswith(f"st3sweep: {said}")


def test_a_file_that_is_not_text_is_an_error(budget: Path) -> None:
    budget.write_bytes(b"layer,sparsity\nfc,\xff\n")
    with pytest.raises(Exception, match="not a CSV file in UTF-8"):
        read_layer_budget(budget, LAYERS)
