"""Test that every setting of a method changes the training. One line a setting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_training import same, trained

from st3sweep.trial.settings import TrialSettings

TinyTrial = Callable[..., TrialSettings]

DENSE_LAYERS = [{"keep_dense": "first"}, {"keep_dense": "first_and_depthwise"}]
BASES: dict[str, dict[str, Any]] = {"str": {"s_init": -2.5}}  # for methods without a target
SWITCHES: dict[str, list[dict[str, Any]]] = {
    "gmp": [
        {},
        {"target": 0.7},
        {"allocation": "global"},
        {"allocation": "global", "criterion": "lamp"},
        *DENSE_LAYERS,
        {"ramp": {"start": 0.2}},
        {"ramp": {"end": 0.9}},
        {"ramp": {"power": 1}},
        {"interval": 0.3},
    ],
    "static": [{}, {"target": 0.7}, {"allocation": "uniform"}, *DENSE_LAYERS],
    "rigl": [
        {},
        {"target": 0.7},
        {"allocation": "uniform"},
        *DENSE_LAYERS,
        {"drop_fraction": 0.6},
        {"interval": 0.3},
        {"stop": 0.5},
    ],
    "granet": [
        {},
        {"target": 0.7},
        {"initial_density": 0.4},
        {"initial_density": 1.0},
        *DENSE_LAYERS,
        {"drop_fraction": 0.3},
        {"ramp": {"start": 0.2}},
        {"ramp": {"end": 0.9}},
        {"ramp": {"power": 1}},
        {"interval": 0.3},
    ],
    "dnw": [{}, {"target": 0.7}, *DENSE_LAYERS],
    "str": [{}, {"s_init": -2.0}, {"s_lr_ratio": 2.0}, {"s_decay_ratio": 2.0}],
    "probmask": [
        {},
        {"target": 0.7},
        {"ramp": {"start": 0.4}},
        {"ramp": {"end": 0.9}},
        {"ramp": {"power": 1}},
        {"masks_per_step": 3},
        {"score_lr": 1e-2},
    ],
}


@pytest.mark.parametrize("method", SWITCHES)
def test_every_setting_does_something(tiny_trial: TinyTrial, method: str) -> None:
    base = {"method": method, **BASES.get(method, {"target": 0.8})}
    found = [trained(tiny_trial(sparsity={**base, **switch})).weights for switch in SWITCHES[method]]
    assert [[same(a, b) for b in found] for a in found] == torch.eye(len(found), dtype=torch.bool).tolist()


@pytest.mark.parametrize("method", ["static", "rigl", "granet", "probmask"])
def test_random_masks_depend_on_the_seed(tiny_trial: TinyTrial, method: str) -> None:
    """The initial model of the small training is the same for all seeds of a trial."""
    sparsity = {"method": method, "target": 0.8}
    assert not same(*(trained(tiny_trial(sparsity=sparsity, seed=seed)).weights for seed in (0, 1)))
