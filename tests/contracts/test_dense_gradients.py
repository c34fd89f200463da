"""Test that methods use gradients of pruned weights in as many steps as ``Method.dense_gradients`` says."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from settings import METHODS
from small_training import STEPS, Training, start

from st3sweep.sparse.method import sparse_weights
from st3sweep.trial.settings import TrialSettings

TinyTrial = Callable[..., TrialSettings]
# ST-3 prunes before the first step; RigL and GraNet rewire at every update.
SETTINGS: dict[str, dict[str, Any]] = {
    "st3": {"ramp": {"start": 0.0, "end": 0.01}},
    "rigl": {"drop_fraction": 1.0},
    "granet": {"drop_fraction": 1.0},
}
# ProbMask's relaxed masks make no weight 0: it always needs the whole gradient.
SPARSE = [(name, sparsity) for name, sparsity in METHODS if sparsity["method"] not in ("dense", "probmask")]


def disturbed(training: Training) -> Training:
    """Return a copy with another ∂L/∂θ̂ of the pruned weights. To be called inside the scope."""
    other, generator = copy.deepcopy(training), torch.Generator().manual_seed(0)
    # A stored mask may keep a weight that is 0.
    alive = getattr(training.method, "masks", [weight.detach() != 0 for weight in training.weights])
    for weight, twin, mask in zip(training.weights, other.weights, alive, strict=True):
        noise = torch.rand(weight.shape, generator=generator, dtype=weight.dtype) * 1e3
        twin.grad = weight.grad + noise * ~mask  # type: ignore[operator]
    return other


def pulled_back(training: Training, progress: float) -> list[Any]:
    """Return ∂L/∂θ of each weight."""
    training.method.transform_gradients(progress, training.weights, training.optimizer)
    return [weight.grad for weight in training.weights]


@pytest.mark.parametrize("sparsity", [sparsity for _, sparsity in SPARSE], ids=[name for name, _ in SPARSE])
def test_dense_gradients_are_used_as_often_as_the_method_says(tiny_trial: TinyTrial, sparsity: dict[str, Any]) -> None:
    training = start(tiny_trial(sparsity=sparsity | SETTINGS.get(sparsity["method"], {})))
    if sparsity["method"] == "st3":
        training.method.refresh(1.0, training.weights)
    used = 0
    for step in range(STEPS):
        training.optimizer.zero_grad()
        with sparse_weights(training.weights, training.method):
            training.loss(step).backward()
            other = disturbed(training)
        for weight, twin in zip(training.weights, other.weights, strict=True):
            twin.data.copy_(weight)
        progress = (step + 1) / STEPS
        pairs = zip(pulled_back(training, progress), pulled_back(other, progress), strict=True)
        used += not all(torch.equal(ours, theirs) for ours, theirs in pairs)
        training.optimizer.step()
        training.method.refresh(progress, training.weights)
    assert used / STEPS == training.method.dense_gradients(STEPS)
