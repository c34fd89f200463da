"""Named recipes: default settings of a trial. A space overrides any field; ``resolve`` merges the two.

``paper`` is the ST-3 appendix. ``authors`` is the released code where it differs (fixed-mask epochs, edge padding,
batch-norm momentum 0.99; on ImageNet batch 512, momentum 0.875, label smoothing, mixed precision). The released
ImageNet configuration also adds a second, rewound phase, which is left out.

Times are fractions of training, so that a shortened run keeps the recipe's shape: CIFAR ramps from epoch 5 to 80
of 160, ImageNet from 5 to 50 of 100.
"""

from __future__ import annotations

from typing import Any

from st3sweep.trial.data import DataConfig
from st3sweep.trial.settings import TrialSettings

Tree = dict[str, Any]

_SMALL: Tree = {
    "train": {
        "epochs": 160,
        "batch_size": 128,
        "label_smoothing": 0.0,
        "precision": "auto",
        "bn_momentum": 0.1,
        "finetune_epochs": 0,
    },
    "optim": {
        "lr": 0.1,
        "momentum": 0.9,
        "clip_norm": 3.0,
        "schedule": {"kind": "step", "milestones": [0.5, 0.75], "gamma": 0.1},
        "weight_decay": {"kind": "constant", "value": 1e-4},
    },
    "sparsity": {"method": "st3", "ramp": {"start": 5 / 160, "end": 80 / 160, "power": 3}},
}

_LARGE: Tree = {
    "train": {**_SMALL["train"], "epochs": 100, "batch_size": 256},
    "optim": {
        "lr": 0.2,
        "momentum": 0.9,
        "clip_norm": 3.0,
        "schedule": {"kind": "cosine", "warmup": 5 / 100},
        "weight_decay": {"kind": "by_target"},
    },
    "sparsity": {"method": "st3", "ramp": {"start": 5 / 100, "end": 50 / 100, "power": 3}},
}

RECIPES: dict[tuple[str, str], Tree] = {
    ("paper", "small"): _SMALL,
    ("paper", "large"): _LARGE,
    ("authors", "small"): {
        **_SMALL,
        "train": {**_SMALL["train"], "finetune_epochs": 10, "bn_momentum": 0.99},
        "data": {"augment": {"fill": "edge"}},
    },
    ("authors", "large"): {
        **_LARGE,
        "train": {**_LARGE["train"], "batch_size": 512, "label_smoothing": 0.1, "precision": "bf16"},
        "optim": {**_LARGE["optim"], "momentum": 0.875, "weight_decay": {"kind": "constant", "value": 5e-5}},
    },
}

NAMES = tuple(dict.fromkeys(name for name, _ in RECIPES))

# Fields that determine which other fields exist: where one differs, the recipe's node does not apply.
KINDS = ("kind", "method", "arch", "dataset")


def overlay(base: Tree, top: Tree) -> Tree:
    """Merge ``top`` over ``base``, mapping by mapping; a node of another kind replaces the base's whole node."""
    if any(key in top and key in base and top[key] != base[key] for key in KINDS):
        return top
    merged = dict(base)
    for key, value in top.items():
        below = base.get(key)
        merged[key] = overlay(below, value) if isinstance(value, dict) and isinstance(below, dict) else value
    return merged


def with_recipe(trial: Tree) -> Tree:
    """Merge ``trial`` over its recipe for the size of its images; over ``paper`` if it names none that exists."""
    data = trial.get("data")
    dataset = data.get("dataset") if isinstance(data, dict) else None
    registered = DataConfig.registered.get(dataset) if isinstance(dataset, str) else None
    size = registered.recipe_size if registered else "small"
    name = trial.get("recipe", "paper")
    known = isinstance(name, str) and (name, size) in RECIPES
    return overlay(RECIPES[name if known else "paper", size], trial)


def resolve(trial: Tree) -> TrialSettings:
    """Return the complete trial, with its recipe's defaults. Raises pydantic's ValidationError."""
    return TrialSettings.model_validate(with_recipe(trial))
