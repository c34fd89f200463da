"""Test GraNet by hand: the cubic total density, the global ranking, and regeneration at the next gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from make_methods import granet
from torch import nn

from st3sweep.sparse.allocation import allocate
from st3sweep.sparse.masks import nonzeros
from st3sweep.sparse.method import sparse_weights
from st3sweep.sparse.methods.granet import GraNet

SHAPES = [(8, 3, 3, 3), (16, 8, 3, 3), (10, 16)]
TOTAL = 216 + 1152 + 160


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def trained(method: GraNet, weights: list[nn.Parameter], steps: int) -> list[dict[str, Any]]:
    """Train with noisy gradients; return for each step the live weights, and how many regrew in each layer."""
    optimizer = torch.optim.SGD(weights, lr=0.05, momentum=0.9, weight_decay=1e-2)
    generator = torch.Generator().manual_seed(0)
    found = []
    for step in range(steps):
        before = [mask.clone() for mask in method.masks]
        with sparse_weights(weights, method):
            for weight in weights:
                weight.grad = weight.detach() - torch.randn(weight.shape, generator=generator)
        method.transform_gradients((step + 1) / steps, weights, optimizer)
        born = [mask & ~old for mask, old in zip(method.masks, before, strict=True)]
        counts = [(int(old.sum()), int(mask.sum())) for old, mask in zip(before, method.masks, strict=True)]
        for weight, new, mask in zip(weights, born, method.masks, strict=True):
            momentum = optimizer.state[weight].get("momentum_buffer", torch.zeros_like(weight))
            assert not weight.detach()[new].any()
            assert not momentum[new].any()
            assert not weight.grad[~mask].any()  # type: ignore[index]
        optimizer.step()
        method.refresh((step + 1) / steps, weights)
        found.append(
            {
                "regeneration kept the counts": all(old == new for old, new in counts),
                "born": [int(new.sum()) for new in born],
                "alive": nonzeros(weights),
                "ratio": method.scheduled_sparsity,
            }
        )
    return found


def test_total_density_follows_the_cubic() -> None:
    """It falls from 0.5 at 0.1 of training to 0.1 at 0.6, with updates every 0.1, at t_k = (k - 1) / 5 of the ramp."""
    weights = parameters()
    method = granet(weights, target=0.9, ramp_start=0.1, ramp_end=0.6, interval=0.1)
    start = allocate("erk", SHAPES, 0.5)
    assert [int(mask.sum()) for mask in method.masks] == start
    history = trained(method, weights, 40)
    densities = [0.5, 0.5, *(0.1 + 0.4 * (1 - part / 5) ** 3 for part in range(1, 6)), *[0.1] * 4]
    for step, row in enumerate(history, 1):
        expected = densities[step // 4]
        assert sum(row["alive"]) == round(expected * TOTAL), step
        assert row["ratio"] == pytest.approx(1 - expected)
        assert row["regeneration kept the counts"]
    assert method.at_target


def test_regeneration_follows_every_update_and_falls_to_0() -> None:
    """Updates follow steps 4, 8, … 36 of 40: in the step after each, weights regrow."""
    weights = parameters()
    history = trained(granet(weights, target=0.9, ramp_end=0.5, interval=0.1), weights, 40)
    born = {step: sum(row["born"]) for step, row in enumerate(history, 1) if any(row["born"])}
    assert list(born) == [5, 9, 13, 17, 21, 25, 29, 33, 37]
    alive = {step: sum(history[step - 2]["alive"]) for step in born}
    shares = [born[step] / alive[step] for step in born]
    assert all(share <= 0.5 for share in shares)
    assert shares[-1] < 0.02 < shares[4] < shares[0]


def test_masks_are_fixed_before_the_ramp_starts() -> None:
    """The ramp starts at 0.25 of training: the update after step 14 of 40 is the first; there is none at the start."""
    weights = parameters()
    method = granet(weights, target=0.9, ramp_start=0.25, ramp_end=0.75, interval=0.1)
    born = [sum(row["born"]) > 0 for row in trained(method, weights, 40)]
    assert born.index(True) == 14
    assert method.dense_gradients(40) == 7 / 40


def test_the_global_ranking_worked_out_by_hand() -> None:
    """Half of ten are pruned. Regeneration drops half of the live: one of two, and two of three (1.5, rounded)."""
    weights = [
        nn.Parameter(torch.tensor([[0.1, -0.4], [2.5, 3.5]])),
        nn.Parameter(torch.tensor([[5.0, -1.0, 2.0], [-6.0, 4.0, 0.3]])),
    ]
    method = granet(weights, target=0.5, initial_density=1.0, ramp_end=0.01, interval=0.01)
    assert all(mask.all() for mask in method.masks)
    method.refresh(0.01, weights)
    assert [mask.int().tolist() for mask in method.masks] == [[[0, 0], [1, 1]], [[1, 0, 0], [1, 1, 0]]]
    weights[0].grad = torch.tensor([[3.0, -4.0], [1.0, 9.0]])
    weights[1].grad = torch.tensor([[1.0, 5.0, -7.0], [8.0, 6.0, 2.0]])
    method.transform_gradients(0.0, weights, torch.optim.SGD(weights, lr=0.1))
    # 2.5 is dropped and -0.4 grows; 5 and 4 are dropped, 2 grows and 4 grows again.
    assert [mask.int().tolist() for mask in method.masks] == [[[0, 1], [0, 1]], [[0, 0, 1], [1, 1, 0]]]
    assert weights[0].tolist() == [[0.0, 0.0], [2.5, 3.5]]
    assert weights[1].tolist() == [[5.0, 0.0, 0.0], [-6.0, 4.0, 0.0]]
    assert weights[0].grad.tolist() == [[0.0, -4.0], [0.0, 9.0]]
    method.refresh(0.015, weights)
    assert weights[0].tolist() == [[0.0, 0.0], [0.0, 3.5]]


def test_pruning_regrows_no_weight() -> None:
    """The first weight is pruned, the second is live but 0; three of four are to be kept."""
    weights = [torch.tensor([[0.0, 0.0, 3.0, 4.0]])]
    method = granet(weights, target=0.25, initial_density=1.0)
    method.masks = [torch.tensor([[False, True, True, True]])]
    method.refresh(1.0, weights)
    assert method.masks[0].tolist() == [[False, True, True, True]]


@pytest.mark.parametrize(("target", "initial"), [(0.3, 0.3), (0.5, 0.5), (0.9, 0.5)])
def test_the_initial_sparsity_is_at_most_the_final_one(target: float, initial: float) -> None:
    weights = parameters()
    method = granet(weights, target=target)
    assert method.scheduled_sparsity == initial
    assert sum(int(mask.sum()) for mask in method.masks) == round((1 - initial) * TOTAL)
    assert all(sum(row["alive"]) >= round((1 - target) * TOTAL) for row in trained(method, weights, 20))
    assert sum(nonzeros(weights)) == round((1 - target) * TOTAL)


@given(st.floats(0, 0.999), st.floats(0.001, 1))
def test_it_ends_at_exactly_its_target(target: float, initial_density: float) -> None:
    weights = [torch.ones(2, 2)]
    method = granet(weights, target=target, initial_density=initial_density)
    method.refresh(1.0, weights)
    assert method.at_target


def test_layers_that_are_left_dense_stay_so() -> None:
    weights = parameters()
    history = trained(granet(weights, target=0.8, keep_dense="first", interval=0.05), weights, 20)
    assert all(row["alive"][0] == 216 for row in history)
    assert sum(history[-1]["alive"][1:]) == round(0.2 * (1152 + 160))
