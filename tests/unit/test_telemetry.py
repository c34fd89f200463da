"""Test the statistics of layers by hand."""

from __future__ import annotations

import pytest
import torch
from make_methods import st3
from torch import Tensor

from st3sweep.sparse.layer_stats import layer_stats, total
from st3sweep.sparse.method import Method
from st3sweep.sparse.methods.st3 import ST3

WEIGHTS = [
    torch.tensor([[3.0, 4.0], [0.5, -0.5]]),  # the second output channel will be dead
    torch.tensor([[[[2.0]]], [[[-6.0]]], [[[1.0]]]]),
]


def half_gone() -> ST3:
    """Return ST-3 with hard thresholding at 1.5: it prunes the magnitudes 0.5, 0.5 and 1."""
    method = st3(WEIGHTS, target=0.5, soft=False, rescale=False)
    method.tau = torch.tensor([1.5, 1.5])
    return method


def test_by_hand() -> None:
    earlier = [torch.tensor([[True, False], [True, False]]), torch.ones(3, 1, 1, 1, dtype=torch.bool)]
    layers, masks = layer_stats(WEIGHTS, half_gone(), earlier)
    assert [mask.flatten().tolist() for mask in masks] == [[True, True, False, False], [True, True, False]]
    assert [layer.alive for layer in layers] == [2, 2]
    assert [layer.density for layer in layers] == [0.5, 2 / 3]
    assert [layer.dead_channels for layer in layers] == [1, 1]
    assert [layer.flip_rate for layer in layers] == [2 / 4, 1 / 3]
    assert [layer.mismatch for layer in layers] == pytest.approx([(0.5 / 25.5) ** 0.5, (1 / 41) ** 0.5])
    network = total(layers)
    assert (network.density, network.dead_channels, network.flip_rate) == (4 / 7, 2, 3 / 7)
    assert network.mismatch == pytest.approx((1.5 / 66.5) ** 0.5)


def test_thresholds_come_with_the_statistics() -> None:
    method = half_gone()
    layers, _ = layer_stats(WEIGHTS, method, None)
    assert [layer.threshold for layer in layers] == [0.0, 0.0], "the ramp has not begun"
    method.schedule(1.0)
    method.tau = torch.tensor([1.5, 0.5])
    layers, _ = layer_stats(WEIGHTS, method, None)
    assert [layer.threshold for layer in layers] == [1.5, 0.5]
    assert total(layers).threshold == pytest.approx((4 * 1.5 + 3 * 0.5) / 7)
    layers, _ = layer_stats(WEIGHTS, Method(), None)
    assert [layer.threshold for layer in (*layers, total(layers))] == [None] * 3


def test_the_first_masks_are_compared_with_a_dense_model() -> None:
    layers, _ = layer_stats(WEIGHTS, half_gone(), None)
    assert [layer.flipped for layer in layers] == [2, 1]


def test_statistics_of_a_dense_model() -> None:
    layers, _ = layer_stats(WEIGHTS, Method(), None)
    assert [(layer.density, layer.dead_channels, layer.flipped, layer.mismatch) for layer in layers] == [
        (1, 0, 0, 0)
    ] * 2


def test_a_layer_of_zeros() -> None:
    zeros: list[Tensor] = [torch.zeros(2, 3)]
    (layer,), _ = layer_stats(zeros, Method(), None)
    assert (layer.alive, layer.dead_channels, layer.mismatch) == (0, 2, 0)
