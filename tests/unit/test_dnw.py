"""Test DNW by hand: which weights are masked, and that all get the gradient of the hard-masked forward pass."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from compare import thresholds_of
from hypothesis import given
from hypothesis import strategies as st
from make_methods import dnw
from torch import nn

from st3sweep.sparse.method import sparse_weights
from st3sweep.sparse.methods.dnw import DNW
from st3sweep.training.optim import optimisation_step


def two_layers() -> list[nn.Parameter]:
    first = torch.tensor([[1.0, -0.2, 3.0], [0.1, -4.0, 0.5]])
    second = torch.tensor([[-0.03, 0.02, 0.01, 0.05]])
    return [nn.Parameter(first), nn.Parameter(second)]


def sparse(method: DNW, weights: list[nn.Parameter]) -> list[list[list[float]]]:
    with sparse_weights(weights, method):
        return [weight.tolist() for weight in weights]


def test_half_of_each_layer_is_masked_before_the_first_step() -> None:
    """A global threshold would mask all of the second layer."""
    weights = two_layers()
    method = dnw(weights, target=0.5)
    assert method.at_target
    assert method.scheduled_sparsity == 0.5
    assert sparse(method, weights) == [
        [[1.0, 0.0, 3.0], [0.0, -4.0, 0.0]],
        [[torch.tensor(-0.03).item(), 0.0, 0.0, torch.tensor(0.05).item()]],
    ]
    assert thresholds_of(method) == [0.5, torch.tensor(0.02).item()]


def test_the_first_layer_can_stay_dense() -> None:
    weights = two_layers()
    method = dnw(weights, target=0.75, keep_dense="first")
    assert sparse(method, weights) == [weights[0].tolist(), [[0.0, 0.0, 0.0, torch.tensor(0.05).item()]]]


@given(count=st.integers(1, 40), target=st.floats(0, 1, exclude_max=True))
def test_the_number_of_masked_weights_is_rounded_down(count: int, target: float) -> None:
    weights = [torch.arange(1.0, count + 1)]
    fallen = (dnw(weights, target=target).sparsify(weights) or weights)[0] == 0
    assert fallen.sum() == int(target * count)
    assert fallen[: int(target * count)].all(), "the smallest"


def test_all_weights_have_the_gradient_of_the_hard_masked_forward_pass() -> None:
    """∂L/∂θ of a masked weight is that of a live weight in its place."""
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(5, 4, dtype=torch.float64))]
    x, y = torch.randn(6, 4, dtype=torch.float64), torch.randint(5, (6,))
    method = dnw(weights, target=0.6)
    hard = (weights[0] * (weights[0].abs() > weights[0].abs().flatten().sort().values[11])).detach().requires_grad_()
    F.cross_entropy(x @ hard.T, y).backward()
    before = weights[0].detach().clone()
    layer = nn.ParameterList(weights)
    optimisation_step(
        layer,
        weights,
        method,
        torch.optim.SGD(weights, lr=0.1),
        lambda: F.cross_entropy(x @ weights[0].T, y),
        progress=0.5,
        clip_norm=None,
    )
    assert hard.grad is not None
    assert (hard == 0).sum() == 12
    assert hard.grad[hard == 0].abs().min() > 0
    torch.testing.assert_close(weights[0].detach(), before - 0.1 * hard.grad, rtol=1e-12, atol=0)


def test_a_masked_weight_that_grows_returns() -> None:
    weights = two_layers()
    method = dnw(weights, target=0.5)
    with torch.no_grad():
        weights[1][0, 2] = -0.04
    method.refresh(0.1, weights)
    assert [value != 0 for value in sparse(method, weights)[1][0]] == [False, False, True, True]
