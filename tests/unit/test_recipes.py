"""Test the recipes' numbers against the ST-3 appendix and the authors' released code, and overriding them."""

from __future__ import annotations

from typing import Any

import pytest

from st3sweep.trial.recipes import overlay, resolve
from st3sweep.trial.schedules import weight_decay_by_target
from st3sweep.trial.settings import TrialSettings


def trial(dataset: str, recipe: str = "paper", **parts: Any) -> TrialSettings:
    arch = "mobilenet_v1" if dataset == "imagenet" else "cifar_resnet"
    return resolve(
        overlay(
            {
                "recipe": recipe,
                "model": {"arch": arch},
                "data": {"dataset": dataset, "root": "."} if dataset != "digits" else {"dataset": dataset},
                "sparsity": {"method": "st3", "target": 0.9},
            },
            parts,
        )
    )


def numbers(spec: TrialSettings) -> dict[str, Any]:
    return spec.model_dump(include={"train", "optim"})


def test_paper_on_small_images():
    spec = trial("cifar10")
    assert numbers(spec) == {
        "train": {
            "epochs": 160, "batch_size": 128, "label_smoothing": 0.0, "precision": "auto", "deterministic": False,
            "compile": False, "graph": "auto", "bn_momentum": 0.1,
            "bn_recalibration": 0, "finetune_epochs": 0, "finetune_lr": None,
        },
        "optim": {
            "lr": 0.1, "momentum": 0.9, "clip_norm": 3.0,
            "schedule": {"kind": "step", "milestones": (80 / 160, 120 / 160), "gamma": 0.1, "warmup": 0.0},
            "weight_decay": {"kind": "constant", "value": 1e-4},
        },
    }  # fmt: skip
    assert spec.sparsity.ramp.model_dump() == {"start": 5 / 160, "end": 80 / 160, "power": 3.0}
    assert spec.data.augment.model_dump() == {"padding": 4, "fill": "zero", "flip": True}
    assert spec.data.validation == 5000


def test_paper_on_large_images():
    spec = trial("imagenet")
    assert numbers(spec) == {
        "train": {
            "epochs": 100, "batch_size": 256, "label_smoothing": 0.0, "precision": "auto", "deterministic": False,
            "compile": False, "graph": "auto", "bn_momentum": 0.1,
            "bn_recalibration": 0, "finetune_epochs": 0, "finetune_lr": None,
        },
        "optim": {
            "lr": 0.2, "momentum": 0.9, "clip_norm": 3.0,
            "schedule": {"kind": "cosine", "warmup": 5 / 100, "final_ratio": 0.0},
            "weight_decay": {"kind": "by_target"},
        },
    }  # fmt: skip
    assert spec.sparsity.ramp.model_dump() == {"start": 5 / 100, "end": 50 / 100, "power": 3.0}
    assert spec.data.image_size == 224


@pytest.mark.parametrize(
    ("network", "target", "decay"),
    [
        ("resnet50", 0.80, 1e-4), ("resnet50", 0.90, 1e-4), ("resnet50", 0.95, 1e-4), ("resnet50", 0.965, 1e-5),
        ("resnet50", 0.98, 1e-5), ("resnet50", 0.99, 0.0), ("mobilenet_v1", 0.80, 1e-4), ("mobilenet_v1", 0.89, 1e-5),
        ("mobilenet_v1", 0.95, 1e-5), ("mobilenet_v1", 0.85, 1e-5), ("resnet50", 0.96, 1e-5), ("resnet50", 0.995, 0.0),
    ],
)  # fmt: skip
def test_the_appendix_table_of_weight_decay(network: str, target: float, decay: float):
    """Between two rows the next higher sparsity applies; above the last row, the last."""
    assert weight_decay_by_target(network, target) == decay


def test_authors_on_small_images():
    """10 more epochs with fixed masks; batch-norm momentum 0.99; crops padded by the edge. The rest is as the paper."""
    paper, authors = trial("cifar10"), trial("cifar10", "authors")
    assert (authors.train.epochs, authors.train.finetune_epochs, authors.train.bn_momentum) == (160, 10, 0.99)
    assert authors.data.augment.fill == "edge"
    assert authors.optim == paper.optim
    assert authors.sparsity == paper.sparsity


def test_authors_on_large_images():
    """Batch 512, momentum 0.875, weight decay 5e-5, label smoothing 0.1, mixed precision."""
    paper, authors = trial("imagenet"), trial("imagenet", "authors")
    assert (authors.train.epochs, authors.train.batch_size) == (100, 512)
    assert (authors.train.label_smoothing, authors.train.precision) == (0.1, "bf16")
    assert (authors.optim.lr, authors.optim.momentum) == (0.2, 0.875)
    assert authors.optim.weight_decay.model_dump() == {"kind": "constant", "value": 5e-5}
    assert authors.optim.schedule == paper.optim.schedule
    assert authors.sparsity == paper.sparsity


def test_a_trial_overrides_any_field_of_its_recipe():
    spec = trial("cifar10", train={"epochs": 4}, optim={"schedule": {"gamma": 0.2}}, sparsity={"ramp": {"power": 1}})
    assert (spec.train.epochs, spec.train.batch_size) == (4, 128)
    assert spec.optim.schedule.model_dump() == {"kind": "step", "milestones": (0.5, 0.75), "gamma": 0.2, "warmup": 0.0}
    assert spec.sparsity.ramp.model_dump() == {"start": 0.03125, "end": 0.5, "power": 1.0}


def test_overlay_drops_a_node_of_another_kind():
    base = {"schedule": {"kind": "step", "milestones": [0.5], "gamma": 0.1}, "lr": 0.1}
    assert overlay(base, {"schedule": {"kind": "cosine"}}) == {"schedule": {"kind": "cosine"}, "lr": 0.1}
    same = {"schedule": {"kind": "step", "milestones": [0.5], "gamma": 0.2}, "lr": 0.1}
    assert overlay(base, {"schedule": {"kind": "step", "gamma": 0.2}}) == same
    assert overlay(base, {"schedule": {"gamma": 0.2}}) == same
    assert base["schedule"] == {"kind": "step", "milestones": [0.5], "gamma": 0.1}, "the recipe is unchanged"


def test_another_kind_of_node_takes_nothing_from_the_recipe():
    spec = trial("cifar10", optim={"schedule": {"kind": "cosine"}})
    assert spec.optim.schedule.model_dump() == {"kind": "cosine", "warmup": 0.0, "final_ratio": 0.0}
    assert trial("digits", sparsity={"method": "dense"}).sparsity.model_dump() == {"method": "dense"}
