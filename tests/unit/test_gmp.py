"""Test GMP by hand: which weights are pruned when, and that they never return."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from make_methods import gmp
from torch import Tensor

from st3sweep.sparse.masks import nonzeros
from st3sweep.sparse.method import sparse_weights


def layers() -> list[Tensor]:
    """Return the weights of two linear layers, four and six."""
    return [
        torch.tensor([[0.1, -0.4], [0.2, 0.3]], requires_grad=True),
        torch.tensor([[5.0, -1.0, 2.0], [-6.0, 4.0, 3.0]], requires_grad=True),
    ]


def ints(masks: list[Tensor]) -> list[Any]:
    return [mask.int().tolist() for mask in masks]


def test_uniform_and_global_masks_worked_out_by_hand() -> None:
    weights = layers()
    uniform = gmp(weights, target=0.5)
    uniform.refresh(1.0, weights)
    assert ints(uniform.masks) == [[[0, 1], [0, 1]], [[1, 0, 0], [1, 1, 0]]]
    assert weights[0].tolist() == [[0.0, pytest.approx(-0.4)], [0.0, pytest.approx(0.3)]]  # θ itself is pruned
    weights = layers()
    whole = gmp(weights, target=0.5, allocation="global")
    whole.refresh(1.0, weights)
    assert ints(whole.masks) == [[[0, 0], [0, 0]], [[1, 0, 1], [1, 1, 1]]]


def test_a_layer_left_dense_is_outside_the_target() -> None:
    for allocation in ("uniform", "global"):
        weights = layers()
        method = gmp(weights, target=0.5, allocation=allocation, keep_dense="first")
        method.refresh(1.0, weights)
        assert ints(method.masks) == [[[1, 1], [1, 1]], [[1, 0, 0], [1, 1, 0]]]


def test_the_published_rows_of_mobilenet_prune_89_03_percent_in_all() -> None:
    """The target is 90 % with first and depthwise layers dense, on MobileNetV1's shapes."""
    widths = [64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    shapes: list[tuple[int, ...]] = [(32, 3, 3, 3)]
    for before, after in zip([32, *widths], widths, strict=False):
        shapes += [(before, 1, 3, 3), (after, before, 1, 1)]
    shapes.append((1000, 1024))
    weights = [torch.rand(shape) for shape in shapes]
    total = sum(weight.numel() for weight in weights)
    assert total == 4_209_088
    method = gmp(weights, target=0.9, keep_dense="first_and_depthwise")
    method.refresh(1.0, weights)
    assert 1 - sum(nonzeros(weights)) / total == pytest.approx(0.8903, abs=5e-5)


def test_sparsity_rises_at_updates_only() -> None:
    """Updates come every 0.2 from 0.2 to 0.6 of training: at 0.4 sparsity is 0.8 (1 - 0.5^3) = 0.7."""
    weights = [torch.arange(1.0, 101.0).reshape(10, 10)]
    method = gmp(weights, target=0.8, ramp_start=0.2, ramp_end=0.6, interval=0.2)
    found = []
    for tenth in range(11):
        method.refresh(tenth / 10, weights)
        found.append((round(method.scheduled_sparsity, 9), int(method.masks[0].sum())))
    assert found == [(0.0, 100)] * 4 + [(0.7, 30)] * 2 + [(0.8, 20)] * 5
    assert method.at_target


def test_pruned_weights_do_not_return() -> None:
    """They stay pruned even where they have become larger than live ones."""
    weights = [torch.tensor([[4.0, 3.0, 2.0, 1.0]])]
    method = gmp(weights, target=0.5, ramp_end=1.0, ramp_power=1.0, interval=0.5)
    method.refresh(0.5, weights)
    assert ints(method.masks) == [[[1, 1, 1, 0]]]
    weights[0].copy_(torch.tensor([[0.0, 0.0, 0.1, 9.0]]))
    method.refresh(1.0, weights)
    assert ints(method.masks) == [[[1, 0, 1, 0]]]  # of the two live zeros the first is kept
    assert weights[0].tolist() == [[0.0, 0.0, pytest.approx(0.1), 0.0]]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8).map(sorted), st.sampled_from(["uniform", "global"]))
def test_masks_only_shrink_and_their_total_is_exact(times: list[float], allocation: str) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(shape, generator=generator) for shape in ((7, 5), (3, 3, 3, 3), (11, 1))]
    total = sum(weight.numel() for weight in weights)
    method = gmp(weights, target=0.93, ramp_end=1.0, interval=0.01, allocation=allocation)
    for time in times:
        before = method.masks
        method.refresh(time, weights)
        assert all(bool((old >= new).all()) for old, new in zip(before, method.masks, strict=True))
        assert (
            abs(sum(int(mask.sum()) for mask in method.masks) - (1 - method.scheduled_sparsity) * total) <= 0.5 + 1e-6
        )
        for weight in weights:
            weight.add_(torch.randn(weight.shape, generator=generator))


def test_pruned_weights_get_no_gradient_and_neither_momentum_nor_decay_moves_them() -> None:
    weights = layers()
    optimizer = torch.optim.SGD(weights, lr=0.1, momentum=0.9, weight_decay=0.1)
    method = gmp(weights, target=0.5, ramp_end=0.5, interval=0.5)
    for step in range(4):
        optimizer.zero_grad()
        with sparse_weights(weights, method):
            sum(weight.square().sum() + weight.sum() for weight in weights).backward()  # type: ignore[union-attr]
        method.transform_gradients(step / 4, weights, optimizer)
        assert all(
            torch.equal(weight.grad != 0, mask)  # type: ignore[arg-type]
            for weight, mask in zip(weights, method.masks, strict=True)
        )
        optimizer.step()
        method.refresh((step + 1) / 4, weights)
        for weight, mask in zip(weights, method.masks, strict=True):
            assert torch.equal(weight != 0, mask)
    assert sum(nonzeros(weights)) == 5
