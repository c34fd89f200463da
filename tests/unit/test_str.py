"""Test STR by hand: soft thresholds, their gradients against finite differences, and the effect of weight decay."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from compare import thresholds_of
from finite_differences import central_differences
from make_methods import str_
from torch import Tensor, nn

from st3sweep.sparse.method import harden, sparse_weights
from st3sweep.sparse.methods import build_method
from st3sweep.sparse.methods.str import STR
from st3sweep.training.optim import optimisation_step
from st3sweep.trial.settings import TrialSettings


def two_layers() -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in ((6, 4), (3, 6))]


def loss_of(weights: list[Tensor]) -> Tensor:
    x = torch.linspace(-1, 1, 20, dtype=torch.float64).reshape(5, 4)
    hidden = torch.tanh(x @ weights[0].T)
    return F.cross_entropy(hidden @ weights[1].T, torch.tensor([0, 1, 2, 0, 1]))


def gradients(method: STR, weights: list[nn.Parameter]) -> None:
    with sparse_weights(weights, method):
        loss_of([*weights]).backward()
    method.transform_gradients(0.5, weights, torch.optim.SGD(weights))


def test_thresholds_are_one_half_at_0() -> None:
    weights = [torch.tensor([[1.0, -2.0], [0.5, -0.25]]), torch.tensor([[3.0]])]
    method = str_(weights, s_init=0.0, momentum=0.9)
    assert [sparse.tolist() for sparse in method.sparsify(weights) or []] == [[[0.5, -1.5], [0.0, 0.0]], [[2.5]]]
    assert thresholds_of(method) == [0.5, 0.5]


def test_gradients_by_hand() -> None:
    """σ(0) = 1/2 and σ'(0) = 1/4; the loss is 2 θ̂_0 + 3 θ̂_1 + 5 θ̂_2, of which θ̂_2 is pruned."""
    weight = nn.Parameter(torch.tensor([1.0, -2.0, 0.25]))
    method = str_([weight], s_init=0.0, momentum=0.0)
    with sparse_weights([weight], method):
        (weight * torch.tensor([2.0, 3.0, 5.0])).sum().backward()
    method.transform_gradients(0.5, [weight], torch.optim.SGD([weight]))
    assert weight.grad is not None
    assert method.s.grad is not None
    assert weight.grad.tolist() == [2.0, 3.0, 0.0]
    assert method.s.grad.tolist() == [-0.25 * (2 - 3)]
    method.step_own_parameters(lr=0.1, weight_decay=0.0)
    assert method.s.tolist() == pytest.approx([-0.025])


def test_gradients_against_finite_differences() -> None:
    weights = two_layers()
    method = str_(weights, s_init=-1.0, momentum=0.9)
    with torch.no_grad():
        method.s[1] = -0.3
    gradients(method, weights)

    for tensor in (method.s, *weights):
        assert tensor.grad is not None
        expected = central_differences(tensor.data, lambda: loss_of(method.sparsify(weights) or []).item())
        torch.testing.assert_close(tensor.grad, expected, rtol=1e-5, atol=1e-9)
        assert tensor.grad.abs().max() > 1e-3
    assert (weights[0].grad == 0).any(), "pruned weights have no gradient"


def test_s_has_the_sgd_of_the_weights_and_no_clipping() -> None:
    """Take two steps of heavy-ball SGD with weight decay, by hand, with the weights' gradient clipped to almost 0."""
    weights = two_layers()
    method = str_(weights, s_init=-1.0, momentum=0.5)
    optimizer = torch.optim.SGD(weights, lr=0.1, momentum=0.5, weight_decay=0.01)
    s, velocity = torch.full((2,), -1.0, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    for step in range(2):
        with torch.no_grad():
            clean = [weight.clone().requires_grad_() for weight in weights]
        own = str_(clean, s_init=0.0, momentum=0.0)
        own.s.copy_(s)
        with sparse_weights(clean, own):
            loss_of(clean).backward()
        own.transform_gradients(0.0, clean, optimizer)
        assert own.s.grad is not None
        velocity = 0.5 * velocity + own.s.grad + 0.01 * s
        s = s - 0.1 * velocity
        optimisation_step(
            nn.ParameterList(weights),
            weights,
            method,
            optimizer,
            lambda: loss_of([*weights]),
            progress=(step + 1) / 2,
            clip_norm=1e-12,
        )
        torch.testing.assert_close(method.s, s, rtol=1e-12, atol=0)


def test_learning_rate_and_decay_of_s_can_differ_from_those_of_the_weights() -> None:
    method = str_([torch.ones(3, dtype=torch.float64)], s_init=-1.0, momentum=0.0, s_lr_ratio=2.0, s_decay_ratio=3.0)
    method.s.grad = torch.tensor([0.5], dtype=torch.float64)
    method.step_own_parameters(lr=0.1, weight_decay=0.01)
    assert method.s.tolist() == pytest.approx([-1 - 0.2 * (0.5 - 0.03)])


def test_settings_of_a_trial_reach_the_sgd_of_s(tiny_trial: Callable[..., TrialSettings]) -> None:
    sparsity = {"method": "str", "s_init": -1.0, "s_lr_ratio": 2.0, "s_decay_ratio": 3.0}
    spec = tiny_trial(sparsity=sparsity, optim={"momentum": 0.5})
    method = build_method(spec, [torch.ones(3, dtype=torch.float64)], [1.0])
    assert isinstance(method, STR)
    s, velocity = -1.0, 0.0
    for _ in range(2):
        method.s.grad = torch.tensor([0.5], dtype=torch.float64)
        method.step_own_parameters(lr=0.1, weight_decay=0.01)
        velocity = 0.5 * velocity + 0.5 + 0.03 * s
        s -= 0.2 * velocity
        assert method.s.tolist() == pytest.approx([s])


def test_weight_decay_alone_raises_thresholds() -> None:
    """Far below 0 the gradient vanishes: s is s_0 exp(-wd Σ lr / (1 - momentum)) to first order."""
    weights = [nn.Parameter(torch.ones(4, dtype=torch.float64))]
    method = str_(weights, s_init=-800.0, momentum=0.9)
    for _ in range(2000):
        weights[0].grad = torch.ones(4, dtype=torch.float64)
        method.transform_gradients(0.5, weights, torch.optim.SGD(weights))
        method.step_own_parameters(lr=0.1, weight_decay=1e-4)
    assert method.s.item() == pytest.approx(-800 * math.exp(-1e-4 * 2000 * 0.1 / 0.1), rel=2e-3)


def test_an_epoch_before_the_end_is_not_at_the_target() -> None:
    weights = two_layers()
    method = str_(weights, s_init=-1.0, momentum=0.9)
    assert not method.at_target
    method.refresh(0.999, weights)
    assert not method.at_target
    method.refresh(1.0, weights)
    assert method.at_target


def test_hardening_subtracts_the_threshold_once() -> None:
    weight = torch.tensor([1.0, -2.0, 0.25])
    method = str_([weight], s_init=0.0, momentum=0.0)
    harden([weight], method)
    assert weight.tolist() == [0.5, -1.5, 0.0]
