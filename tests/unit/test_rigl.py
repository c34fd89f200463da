"""Test RigL by hand: which weights are dropped and grown, when, and the initial state of regrown weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from make_methods import rigl
from torch import Tensor, nn

from st3sweep.sparse.allocation import allocate
from st3sweep.sparse.masks import nonzeros
from st3sweep.sparse.method import sparse_weights
from st3sweep.sparse.methods.rigl import RigL
from st3sweep.sparse.rewire import rewired


def rewire(
    weight: list[float], mask: list[int], grad: list[float], fraction: float
) -> tuple[list[int], Tensor, Tensor]:
    """Rewire one layer whose momentum is 1; return its mask, weights and momentum."""
    theta = nn.Parameter(torch.tensor([weight]))
    theta.grad = torch.tensor([grad])
    optimizer = torch.optim.SGD([theta], lr=0.1, momentum=0.9)
    optimizer.state[theta]["momentum_buffer"] = torch.ones_like(theta)
    (moved,) = rewired([theta], [torch.tensor([mask]) == 1], [sum(mask)], fraction, optimizer)
    return moved[0].int().tolist(), theta.detach()[0], optimizer.state[theta]["momentum_buffer"][0]


def test_an_update_worked_out_by_hand() -> None:
    """Half of four live weights are dropped: 0.1 and -0.2. The largest gradients of those not kept are -9 and 5."""
    mask, theta, momentum = rewire(
        weight=[0.1, 3.0, -0.2, 4.0, 7.0, 7.0],
        mask=[1, 1, 1, 1, 0, 0],
        grad=[2.0, 99.0, 1.0, 0.0, 5.0, -9.0],
        fraction=0.5,
    )
    assert mask == [0, 1, 0, 1, 1, 1]
    assert theta[4:].tolist() == [0.0, 0.0]  # whatever their values while not live
    assert momentum.tolist() == [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]


def test_a_dropped_weight_that_grows_again_keeps_its_state() -> None:
    mask, theta, momentum = rewire(
        weight=[0.1, 3.0, -0.2, 4.0, 0.0, 0.0],
        mask=[1, 1, 1, 1, 0, 0],
        grad=[8.0, 99.0, 1.0, 0.0, 5.0, -9.0],
        fraction=0.5,
    )
    assert mask == [1, 1, 0, 1, 0, 1]
    assert theta[0] == pytest.approx(0.1)
    assert momentum.tolist() == [1.0, 1.0, 1.0, 1.0, 1.0, 0.0]


def test_ties_go_to_the_first_and_a_live_zero_counts_as_live() -> None:
    mask, *_ = rewire(weight=[0.0, 1.0, 1.0, 0.0, 0.0], mask=[1, 1, 1, 0, 0], grad=[0.0] * 5, fraction=0.3)
    assert mask == [1, 1, 1, 0, 0]  # the live zero is dropped, and is the first of four zero gradients to grow
    mask, *_ = rewire(
        weight=[0.0, 1.0, 1.0, 0.0, 0.0], mask=[0, 1, 1, 1, 0], grad=[0.0, 0.0, 0.0, 0.0, 1.0], fraction=0.3
    )
    assert mask == [0, 1, 1, 0, 1]


def test_layers_without_gradient_and_dense_layers_keep_their_masks() -> None:
    weight = nn.Parameter(torch.randn(2, 3))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    mask = torch.tensor([[1, 0, 1], [0, 1, 0]]) == 1
    assert torch.equal(rewired([weight], [mask], [3], 0.5, optimizer)[0], mask)
    weight.grad = torch.randn(2, 3)
    before = weight.detach().clone()
    full = torch.ones(2, 3, dtype=torch.bool)
    assert rewired([weight], [full], [6], 0.5, optimizer)[0].all()
    assert torch.equal(weight, before)


@given(
    values=st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3), st.booleans()), min_size=1, max_size=40),
    fraction=st.floats(0, 1),
)
def test_the_count_of_a_layer_never_changes(values: list[tuple[int, int, bool]], fraction: float) -> None:
    weight, grad, mask = (list(part) for part in zip(*values, strict=True))
    moved, theta, _ = rewire([float(w) for w in weight], [int(m) for m in mask], [float(g) for g in grad], fraction)
    assert sum(moved) == sum(mask)
    survived = [index for index, (old, new) in enumerate(zip(mask, moved, strict=True)) if old and new]
    assert [theta[index].item() for index in survived] == [weight[index] for index in survived]
    assert all(theta[i] == 0 for i, (old, new) in enumerate(zip(mask, moved, strict=True)) if new and not old)


# -- in training ------------------------------------------------------------------------------------------------

SHAPES = [(8, 3, 3, 3), (16, 8, 3, 3), (10, 16)]


def training(method: RigL, weights: list[nn.Parameter], steps: int) -> list[dict[str, Any]]:
    """Train with noisy gradients; return for each step the masks, and how many weights moved in each layer."""
    optimizer = torch.optim.SGD(weights, lr=0.05, momentum=0.9, weight_decay=1e-2)
    generator = torch.Generator().manual_seed(0)
    found = []
    for step in range(steps):
        before = [mask.clone() for mask in method.masks]
        with sparse_weights(weights, method):
            for weight in weights:
                weight.grad = weight.detach() - torch.randn(weight.shape, generator=generator)
        method.transform_gradients((step + 1) / steps, weights, optimizer)
        live_only = [bool((weight.grad[~mask] == 0).all()) for weight, mask in zip(weights, method.masks, strict=True)]  # type: ignore[index]
        momenta = [optimizer.state[weight].get("momentum_buffer", torch.zeros(1)) for weight in weights]
        born = [mask & ~old for mask, old in zip(method.masks, before, strict=True)]
        newborn_at_rest = [
            not bool(theta.detach()[new].any()) and not bool(momentum.expand_as(new)[new].any())
            for theta, momentum, new in zip(weights, momenta, born, strict=True)
        ]
        optimizer.step()
        method.refresh((step + 1) / steps, weights)
        found.append(
            {
                "counts": [int(mask.sum()) for mask in method.masks],
                "moved": [int(new.sum()) for new in born],
                "fine": all(live_only) and all(newborn_at_rest),
                "alive": nonzeros(weights),
            }
        )
    return found


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


@pytest.mark.parametrize("allocation", ["erk", "uniform"])
def test_every_layer_keeps_its_count_throughout(allocation: str) -> None:
    weights = parameters()
    method = rigl(weights, target=0.8, allocation=allocation, interval=0.05)
    expected = allocate(allocation, SHAPES, 1.0 - 0.8)
    history = training(method, weights, 60)
    assert all(epoch["counts"] == expected == epoch["alive"] for epoch in history)
    assert all(epoch["fine"] for epoch in history)
    assert all(sum(epoch["moved"][layer] for epoch in history) > 0 for layer in range(3))


def test_updates_come_at_their_interval_until_the_stop_and_drop_along_half_a_cosine() -> None:
    """Updates follow steps 4, 8, … 20 of 40, before 0.6 of training. At 0.3, halfway, α / 2 of the live are dropped."""
    weights = parameters()
    method = rigl(weights, target=0.5, allocation="uniform", drop_fraction=0.4, interval=0.1, stop=0.6)
    dropped: dict[int, list[int]] = {}
    counts = allocate("uniform", SHAPES, 0.5)
    for step in range(1, 41):
        for weight in weights:  # all other weights have larger gradients: no dropped weight grows again
            weight.grad = torch.ones_like(weight)
        for weight, mask in zip(weights, method.masks, strict=True):
            weight.data[mask] = 1.0
            weight.grad[mask] = 0.0  # type: ignore[index]
        before = method.masks
        method.transform_gradients(step / 40, weights, torch.optim.SGD(weights))
        moved = [int((old & ~new).sum()) for old, new in zip(before, method.masks, strict=True)]
        if any(moved):
            dropped[step] = moved
    assert list(dropped) == [4, 8, 12, 16, 20]
    assert dropped[12] == [int(0.2 * count + 0.5) for count in counts]
    shares = [dropped[step][1] / counts[1] for step in dropped]
    assert shares == pytest.approx([0.3732, 0.3, 0.2, 0.1, 0.0268], abs=1e-3)
