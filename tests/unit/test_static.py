"""Test static sparse training: the mask has exact counts, depends on the seed, and never changes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from make_methods import static

from st3sweep.sparse.methods import build_method
from st3sweep.sparse.methods.static import Static
from st3sweep.trial.settings import TrialSettings

TinyTrial = Callable[..., TrialSettings]
SHAPES = [(16, 3, 3, 3), (16, 16, 3, 3), (10, 16)]


def test_counts_of_erk_and_uniform_worked_out_by_hand() -> None:
    """Sums of shapes are 25, 38, 26, for 432, 2304, 160 weights. 0.1 of 2896 is 290, so 3.258 per unit of 89."""
    weights = [torch.randn(shape) for shape in SHAPES]
    counts = {
        ("erk", "none"): [81, 124, 85],  # 81.35, 123.65, 84.60
        ("uniform", "none"): [43, 231, 16],  # 43.2, 230.4, 16: rounded they are 289, one short
        ("uniform", "first"): [432, 230, 16],
    }
    for (allocation, keep), expected in counts.items():
        method = static(weights, target=0.9, allocation=allocation, keep_dense=keep)
        assert [int(mask.sum()) for mask in method.masks] == expected


def test_the_seed_of_the_trial_draws_the_mask(tiny_trial: TinyTrial) -> None:
    weights = [torch.randn(shape) for shape in SHAPES]

    def masks(seed: int) -> torch.Tensor:
        method = build_method(tiny_trial(seed=seed, sparsity={"method": "static", "target": 0.8}), weights, [1.0] * 3)
        assert isinstance(method, Static)
        return torch.cat([mask.flatten() for mask in method.masks])

    assert torch.equal(masks(0), masks(0))
    assert 0.1 < (masks(0) != masks(1)).double().mean() < 0.6  # 2 * 0.8 * 0.2 = 0.32 if independent


def test_training_moves_live_weights_and_never_the_mask() -> None:
    weights = [torch.randn(shape) for shape in SHAPES]
    method = static(weights, target=0.9)
    before = [mask.clone() for mask in method.masks]
    assert method.at_target
    for progress in (0.1, 0.5, 1.0):
        for weight in weights:
            weight.add_(torch.randn_like(weight))
        method.refresh(progress, weights)
        assert all(torch.equal(weight != 0, mask) for weight, mask in zip(weights, before, strict=True))
