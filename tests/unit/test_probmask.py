"""Test ProbMask: the projection against brute force, gradients against autograd, drawn and chosen masks."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from finite_differences import central_differences
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from make_methods import probmask
from torch import Tensor, nn

from st3sweep import data
from st3sweep.sparse.method import sparse_weights
from st3sweep.sparse.methods.probmask import ProbMask
from st3sweep.sparse.projection import project_
from st3sweep.training.loop import fit
from st3sweep.training.optim import optimisation_step
from st3sweep.training.world import World
from st3sweep.trial.settings import TrialSettings

TinyTrial = Callable[..., TrialSettings]
SCORES = arrays.arrays(np.float64, st.integers(1, 30), elements=st.floats(-0.5, 1.5))


def two_layers() -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in ((6, 4), (3, 6))]


def loss_of(weights: list[Tensor]) -> Tensor:
    x = torch.linspace(-1, 1, 20, dtype=torch.float64).reshape(5, 4)
    return F.cross_entropy(torch.tanh(x @ weights[0].T) @ weights[1].T, torch.tensor([0, 1, 2, 0, 1]))


def halfway(weights: list[nn.Parameter], **settings: Any) -> ProbMask:
    """Return a method halfway through training, with all scores different."""
    method = probmask(weights, **{"target": 0.5, "ramp_start": 0.0, "ramp_end": 0.4, **settings})
    method.refresh(0.5, weights)
    method.scores.copy_(torch.linspace(0.05, 0.95, 42, dtype=torch.float64))
    return method


# -- projection -------------------------------------------------------------------------------------------------


@given(values=SCORES, part=st.floats(0.01, 1.0))
def test_the_projection_is_that_of_brute_force(values: np.ndarray, part: float) -> None:
    """The sum is piecewise linear in v with bends at each s_i and s_i - 1: solve for v between two bends."""
    budget = part * len(values)

    def total(v: float) -> float:
        return float(np.clip(values - v, 0, 1).sum())

    v = 0.0
    if total(0.0) > budget:
        bends = np.array([0.0, *sorted({b for b in (*values, *(values - 1)) if b > 0})])
        last = max(i for i, bend in enumerate(bends) if total(bend) > budget)
        left, right = bends[last], bends[last + 1]
        v = left + (right - left) * (total(left) - budget) / (total(left) - total(right))
    found = torch.from_numpy(values.copy())
    project_(found, budget)
    np.testing.assert_allclose(found, np.clip(values - v, 0, 1), rtol=0, atol=1e-12)
    assert float(found.sum()) == pytest.approx(min(budget, total(0.0)), abs=1e-12 * len(values))


@given(values=SCORES, part=st.floats(0.01, 1.0), seed=st.integers(0, 1000))
def test_no_point_within_the_budget_is_nearer(values: np.ndarray, part: float, seed: int) -> None:
    found = torch.from_numpy(values.copy())
    project_(found, part * len(values))
    others = np.random.default_rng(seed).uniform(0, 1, (200, len(values)))
    others *= np.minimum(1, part * len(values) / others.sum(1, keepdims=True))
    nearest = np.linalg.norm(found.numpy() - values)
    assert (np.linalg.norm(others - values, axis=1) >= nearest - 1e-12).all()
    to_them = others - found.numpy()  # in none of these directions a point is nearer
    assert (to_them @ (values - found.numpy()) <= 1e-9).all()


def test_the_projection_by_hand() -> None:
    scores = torch.tensor([1.2, 0.5, 0.3, -0.4])
    project_(scores, 1.2)  # v = 0.35: 0.85 + 0.15 would be 1.0; v = 0.25: 0.95 + 0.25 + 0.05 is 1.25
    torch.testing.assert_close(scores, torch.tensor([1.2, 0.5, 0.3, 0.4]) - 0.8 / 3 * torch.tensor([1.0, 1, 1, 1.5]))


def test_scores_within_the_budget_stay_as_they_are() -> None:
    scores = torch.tensor([1e-9, 0.2, 1.0])
    project_(scores, 1.3)
    assert scores.tolist() == torch.tensor([1e-9, 0.2, 1.0]).tolist()


@pytest.mark.parametrize("size", [10_000, 1_000_000])
def test_the_budget_is_met_in_float32(size: int) -> None:
    scores = torch.rand(size, generator=torch.Generator().manual_seed(0))
    project_(scores, 0.1 * size)
    assert float(scores.double().sum()) == pytest.approx(0.1 * size, rel=1e-6)


# -- masks and their gradients ----------------------------------------------------------------------------------


def test_gradients_against_finite_differences() -> None:
    weights = two_layers()
    method = halfway(weights)
    method.begin_pass(1)
    with sparse_weights(weights, method):
        loss_of([*weights]).backward()
    method.transform_gradients(0.5, weights, torch.optim.SGD(weights))

    for tensor in (method.scores, *weights):
        assert tensor.grad is not None
        expected = central_differences(tensor.data, lambda: loss_of(method.sparsify(weights) or []).item())
        torch.testing.assert_close(tensor.grad, expected, rtol=1e-4, atol=1e-8)
        assert tensor.grad.abs().max() > 1e-3


def test_a_step_is_that_of_the_mean_loss_of_its_masks() -> None:
    """Compare with autograd through the relaxed masks, with the method's noise; s stepped by Adam and projected."""
    weights = two_layers()
    method = halfway(weights, masks_per_step=3, score_lr=0.02)
    sharpness = 1 / (0.97 * 0.5 + 0.03)
    noise = []
    for sample in range(3):
        kept = method.scores.clone()
        method.scores.fill_(0.5)  # log(s) - log(1 - s) is 0
        noise.append(torch.logit(method._relaxed_mask(sample)) / sharpness)
        method.scores.copy_(kept)
    clean = [weight.detach().clone().requires_grad_() for weight in weights]
    scores = method.scores.clone().requires_grad_()
    losses = []
    for g in noise:
        mask = torch.sigmoid(sharpness * (torch.log(scores + 1e-20) - torch.log(1 - scores + 1e-20) + g))
        losses.append(loss_of([clean[0] * mask[:24].view(6, 4), clean[1] * mask[24:].view(3, 6)]))
    mean = torch.stack(losses).mean()
    mean.backward()
    adam = torch.optim.Adam([scores], lr=0.02)
    adam.step()
    expected = scores.detach()
    project_(expected, 42 * 0.5)

    loss, _ = optimisation_step(
        nn.ParameterList(weights),
        weights,
        method,
        torch.optim.SGD(weights, lr=0.1),
        lambda: loss_of([*weights]),
        progress=0.6,
        clip_norm=None,
    )
    assert float(loss) == pytest.approx(mean.item())
    for weight, by_hand in zip(weights, clean, strict=True):
        assert by_hand.grad is not None
        torch.testing.assert_close(weight.detach(), by_hand.detach() - 0.1 * by_hand.grad, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(method.scores, expected, rtol=1e-10, atol=1e-12)


def test_the_gradient_of_the_scores_is_that_of_one_step_alone() -> None:
    """Compare with a method that resumes from the same state, without a gradient of an earlier step."""
    weights = two_layers()
    method, resumed = halfway(weights), halfway(weights)
    optimizer = torch.optim.SGD(weights, lr=0.1)
    settings: dict[str, Any] = {"progress": 0.6, "clip_norm": None}
    optimisation_step(nn.ParameterList(weights), weights, method, optimizer, lambda: loss_of([*weights]), **settings)
    resumed.load_state_dict(method.state_dict())
    gradients = []
    for each in (method, resumed):
        each.begin_pass(0)
        optimizer.zero_grad()
        with sparse_weights(weights, each):
            loss_of([*weights]).backward()
        each.transform_gradients(0.7, weights, optimizer)
        gradients.append(each.scores.grad)
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


@pytest.mark.parametrize("probability", [0.02, 0.3, 0.9])
def test_a_weight_is_kept_with_its_probability(probability: float) -> None:
    """A drawn mask keeps it; a relaxed one is above one half."""
    weights = [torch.ones(200, 200)]
    method = probmask(weights, target=1 - probability)
    method.refresh(0.7, weights)
    assert method.scores.unique().tolist() == pytest.approx([probability])
    error = 5 * math.sqrt(probability * (1 - probability) / 40_000)
    assert float(method.sparsify(weights)[0].mean()) == pytest.approx(probability, abs=error)  # type: ignore[index]
    for sample in (0, 1):
        method.begin_pass(sample)
        relaxed = method.sparsify(weights)[0]  # type: ignore[index]
        assert float((relaxed > 0.5).float().mean()) == pytest.approx(probability, abs=error)
    torch.testing.assert_close(method._sharpness(), 1 / (0.97 * 0.3 + 0.03))


def test_masks_depend_on_seed_step_and_sample() -> None:
    weights = two_layers()
    drawn = []
    for seed, steps, sample in ((0, 1, 0), (1, 1, 0), (0, 2, 0), (0, 1, 1), (0, 1, None)):
        method = halfway(weights, seed=seed)
        if steps == 2:
            method.refresh(0.5, weights)
            method.scores.copy_(torch.linspace(0.05, 0.95, 42, dtype=torch.float64))
        if sample is not None:
            method.begin_pass(sample)
        drawn.append(method.sparsify(weights)[0])  # type: ignore[index]
        assert torch.equal(method.sparsify(weights)[0], drawn[-1]), "and on nothing else"  # type: ignore[index]
    assert [[torch.equal(a, b) for b in drawn] for a in drawn] == torch.eye(5, dtype=torch.bool).tolist()


# -- the course of training -------------------------------------------------------------------------------------


def test_before_the_ramp_there_is_one_pass_without_a_mask() -> None:
    weights = two_layers()
    method = probmask(weights, target=0.5, ramp_start=0.16, ramp_end=0.6)
    passes, sums = [], []
    for step in range(10):
        optimisation_step(
            nn.ParameterList(weights),
            weights,
            method,
            torch.optim.SGD(weights, lr=0.1),
            lambda step=step: passes.append(step) or loss_of([*weights]),  # type: ignore[misc,func-returns-value]
            progress=(step + 1) / 10,
            clip_norm=None,
        )
        sums.append((float(method.scores.sum()), 42 * (1 - method.scheduled_sparsity)))
    assert method.scheduled_sparsity == 0.5
    assert [passes.count(step) for step in range(10)] == [1, 1] + [2] * 8
    assert all(found <= budget * (1 + 1e-12) for found, budget in sums)
    falling = [found / budget for found, budget in sums[:6]]
    assert falling == pytest.approx([1.0] * 6), "and equal to it while it falls"
    assert (method.scores.max() - method.scores.min()) > 0.01, "they have learned"


def test_projected_densities_are_the_mean_probabilities_at_the_end_of_the_ramp() -> None:
    weights = two_layers()
    method = probmask(weights, target=0.8, ramp_start=0.0, ramp_end=1.0)
    method.refresh(0.2, weights)
    method.scores.copy_(torch.linspace(0.05, 0.95, 42, dtype=torch.float64))
    before = method.scores.clone()
    projected = method.projected_densities(weights)
    assert torch.equal(method.scores, before)
    method.refresh(1.0, weights)
    first, second = method.scores.split([24, 18])
    assert projected == [first.mean(), second.mean()]
    assert sum(projected) > 0.4 * (1 - 1e-9) > projected[0]
    assert method.projected_densities(weights) is None


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.8])
def test_relaxed_masks_are_drawn_with_logistic_noise(probability: float) -> None:
    """At temperature 1, P(mask > x) is the probability that logistic noise exceeds logit(x) - logit(s)."""
    weights = [nn.Parameter(torch.ones(200_000))]
    method = probmask(weights, target=0.5)
    method.scores.fill_(probability)
    masks = [method._relaxed_mask(sample) for sample in range(2)]
    assert (masks[0] != masks[1]).float().mean() > 0.99
    for x in (0.1, 0.5, 0.9):
        odds = math.log(x / (1 - x)) - math.log(probability / (1 - probability))
        expected = 1 / (1 + math.exp(odds))
        assert float((masks[0] > x).float().mean()) == pytest.approx(expected, abs=0.005)


def test_a_mask_is_never_denormal() -> None:
    """Where the probability is 0, a falling temperature would make masks denormal, which are slow on a CPU."""
    weights = [nn.Parameter(torch.ones(100, 100))]
    method = probmask(weights, target=0.9, ramp_start=0.0, ramp_end=0.4)
    for progress in (0.4, 0.46, 0.5, 1.0):
        method.refresh(progress, weights)
        method.scores.copy_((torch.arange(10_000) % 10 == 0).float())
        method.begin_pass(0)
        (sparse,) = method.sparsify(weights) or []
        assert not sparse.abs()[(sparse != 0)].lt(1e-20).any()


def test_the_mask_of_least_loss_is_chosen() -> None:
    weights = two_layers()
    method = halfway(weights, final_masks=5)
    seen: list[Tensor] = []

    def loss() -> float:
        seen.append((method.sparsify(weights) or [])[0].clone())
        return [3.0, 2.0, 1.0, 5.0, 4.0][len(seen) - 1]

    assert not method.at_target
    method.choose_mask(loss)
    assert method.at_target
    assert len(seen) == 5
    assert [torch.equal((method.sparsify(weights) or [])[0], mask) for mask in seen] == [
        False,
        False,
        True,
        False,
        False,
    ]
    saved = method.state_dict()
    other = probmask(weights, target=0.5)
    other.load_state_dict(saved)
    assert torch.equal((other.sparsify(weights) or [])[1], (method.sparsify(weights) or [])[1])


def test_only_the_chosen_mask_is_at_the_target(tiny_trial: TinyTrial, digits: data.Splits, tmp_path: Path) -> None:
    spec = tiny_trial(
        train={"epochs": 4, "finetune_epochs": 2}, sparsity={"method": "probmask", "target": 0.8, "ramp": {"end": 0.5}}
    )
    records: list[dict[str, Any]] = []
    result = fit(spec, World(), lambda record: bool(records.append(record)), tmp_path, digits)  # type: ignore[func-returns-value]
    assert [record["at_target"] for record in records] == [False, False, False, True, True, True]
    assert [record["ratio"] for record in records] == pytest.approx([0.8 * (1 - (1 - 0.09 / 0.34) ** 3)] + [0.8] * 5)
    numel = sum(layer["numel"] for layer in result["layers"])
    assert result["sparsity"] == pytest.approx(0.8, abs=5 * math.sqrt(0.16 / numel))
    assert len({record["sparsity"] for record in records[3:]}) == 1
