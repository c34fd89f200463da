"""Test the printed table of models: counts agree with the published ones."""

from __future__ import annotations

import dataclasses
import json
import re
import sys

import pytest

from st3sweep import cli
from st3sweep.networks import published as networks
from st3sweep.trial.model import ModelConfig


def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["st3sweep", "models", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_all_models_of_the_paper_agree(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(printed(monkeypatch, capsys, "--json"))
    assert [(row["arch"], row["dataset"]) for row in rows] == [
        *(("cifar_resnet", "cifar10"), ("cifar_resnet", "cifar100"), ("vgg11", "cifar10"), ("vgg_small", "cifar10")),
        *(("wide_resnet", "cifar100"), ("resnet50", "imagenet"), ("mobilenet_v1", "imagenet")),
    ]
    assert all(row["agrees"] and row["weights"] == row["published_weights"] for row in rows)
    assert [row["arch"] for row in rows if row["published_macs"] is None] == ["vgg_small"]
    assert {row["arch"]: (row["layers"], row["macs"], row["gflops"]) for row in rows}["resnet50"] == (
        *(54, 4_089_184_256),
        4.089184256,
    )


@pytest.mark.parametrize("wrong", [{"weights": 270_895}, {"macs": 40_813_185}], ids=str)
def test_a_difference_of_one_is_shown(
    wrong: dict[str, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = networks.PUBLISHED[0]
    monkeypatch.setattr(networks, "PUBLISHED", (dataclasses.replace(right, **wrong), right))
    lines = printed(monkeypatch, capsys).splitlines()
    assert [line.split()[-1] for line in lines[:3]] == ["agrees", "NO", "yes"]
    assert re.sub(r" +", " ", lines[2]) == (
        "ResNet-20 cifar10 3x32x32 22 270,896 40,813,184 0.04081 270,896 40,813,184 yes"
    )
    assert len({len(line) for line in lines[:3]}) == 1  # aligned


def test_the_settings_are_those_of_every_arch() -> None:
    settings = networks.settings()
    assert set(settings) == set(ModelConfig.registered)
    assert settings["wide_resnet"] == "depth 34, width 2, dropout 0.0"
    assert settings["torchvision"] == "network"
    assert settings["timm"] == "name"
