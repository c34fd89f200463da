"""Test the allocation of densities to layers, and the rounding to whole numbers of weights."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from st3sweep.networks.flops import LayerCost, layer_costs
from st3sweep.networks.resnet50 import ResNet50
from st3sweep.sparse.allocation import allocate, erdos_renyi_kernel, kept_dense, live_counts, uniform

SIZES = st.lists(st.integers(1, 3_000), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("densities", "sizes", "counts"),
    [
        ([0.5, 0.5], [10, 20], [5, 10]),
        ([0.25] * 3, [2, 2, 2], [1, 1, 0]),  # 1.5 of 6 rounds to 2; of three halves the first two get one
        ([0.1] * 4, [72, 72, 128, 64], [7, 7, 13, 7]),  # 33.6 in all: 7.2, 7.2, 12.8, 6.4; the last is nearest to 7
        ([1.0, 0.1], [9, 10], [9, 1]),
        ([1.0, 0.0], [9, 10], [9, 0]),
        ([0.0, 0.0], [9, 10], [0, 0]),
    ],
)
def test_counts_worked_out_by_hand(densities: list[float], sizes: list[int], counts: list[int]) -> None:
    assert live_counts(densities, sizes) == counts


@given(layers=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 3_000)), min_size=1, max_size=12))
def test_the_total_is_exact_and_no_layer_overflows(layers: list[tuple[float, int]]) -> None:
    densities, sizes = [density for density, _ in layers], [size for _, size in layers]
    counts = live_counts(densities, sizes)
    assert abs(sum(counts) - math.fsum(d * n for d, n in layers)) <= 0.5 + 1e-6
    assert all(0 <= count <= size for count, size in zip(counts, sizes, strict=True))
    whole = [size for density, size in layers if density == 1.0]
    assert [c for c, density in zip(counts, densities, strict=True) if density == 1.0] == whole


@given(sizes=SIZES, pair=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted))
def test_no_layer_gains_when_the_density_falls(sizes: list[int], pair: list[float]) -> None:
    lower, higher = (live_counts([density] * len(sizes), sizes) for density in pair)
    assert all(low <= high for low, high in zip(lower, higher, strict=True))


def test_the_layers_that_are_left_dense() -> None:
    mobilenet = [(32, 3, 3, 3), (32, 1, 3, 3), (64, 32, 1, 1), (64, 1, 3, 3), (1000, 1024)]
    assert kept_dense("none", mobilenet) == [False] * 5
    assert kept_dense("first", mobilenet) == [True, False, False, False, False]
    assert kept_dense("first_and_depthwise", mobilenet) == [True, True, False, True, False]
    grey = [(8, 1, 3, 3), (10, 1)]  # neither a linear layer of one input nor a first layer of one channel is depthwise
    assert kept_dense("none", grey) == [False, False]
    assert kept_dense("first_and_depthwise", grey) == [True, False]


# -- Erdős-Rényi-Kernel -----------------------------------------------------------------------------------------

SHAPES = st.lists(st.lists(st.integers(1, 40), min_size=2, max_size=4), min_size=1, max_size=10)


def test_erk_by_hand() -> None:
    """Sums of shapes are 20, 20, 26, for 64, 100, 144 weights; 0.25 of 308 is 77, so 77/66 per unit of the sums."""
    shapes = [(4, 16), (10, 10), (12, 12, 1, 1)]
    scale = 0.25 * 308 / 66
    expected = [scale * 20 / 64, scale * 20 / 100, scale * 26 / 144]
    assert erdos_renyi_kernel(shapes, 0.25) == pytest.approx(expected, rel=1e-12)
    assert allocate("erk", shapes, 0.25) == [23, 23, 31]  # of 23.3, 23.3, 30.3: 77 in all, the last nearest to one more


def test_erk_caps_a_layer_at_density_1_and_solves_again() -> None:
    """0.5 of 116 is 58: the first would get 58 * 8 / 28 = 16.57 of 16. Dense, it leaves 42 for the second."""
    assert erdos_renyi_kernel([(4, 4), (10, 10)], 0.5) == pytest.approx([1.0, 0.42], rel=1e-12)
    assert allocate("erk", [(4, 4), (10, 10)], 0.5) == [16, 42]


@given(shapes=SHAPES, density=st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1e-9, 1e-3, 0.999, 1 - 1e-12, 1.0])))
def test_erk_meets_the_density_and_no_layer_exceeds_1(shapes: list[list[int]], density: float) -> None:
    found = erdos_renyi_kernel(shapes, density)
    sizes = [math.prod(shape) for shape in shapes]
    assert all(0.0 <= share <= 1.0 for share in found)
    assert math.fsum(d * n for d, n in zip(found, sizes, strict=True)) == pytest.approx(density * sum(sizes), rel=1e-9)
    scales = [share / (sum(shape) / size) for share, shape, size in zip(found, shapes, sizes, strict=True)]
    sparse = [scale for scale, share in zip(scales, found, strict=True) if share < 1.0]
    assert sparse == pytest.approx([max(sparse, default=0.0)] * len(sparse), rel=1e-9)  # proportional
    assert not sparse or all(scale <= max(sparse) * (1 + 1e-9) for scale in scales)  # dense only where it had to be


@given(
    allocation=st.sampled_from(["erk", "uniform"]),
    shapes=SHAPES,
    density=st.floats(0, 1),
    keep=st.sampled_from(["none", "first", "first_and_depthwise"]),
)
def test_allocated_counts_are_exact(allocation: str, shapes: list[list[int]], density: float, keep: str) -> None:
    sizes = [math.prod(shape) for shape in shapes]
    counts, dense = allocate(allocation, shapes, density, keep), kept_dense(keep, shapes)
    free = [index for index, kept in enumerate(dense) if not kept]
    assert all(counts[index] == sizes[index] for index in set(range(len(shapes))) - set(free))
    assert abs(sum(counts[index] for index in free) - density * sum(sizes[index] for index in free)) <= 0.5 + 1e-6
    assert all(0 <= count <= size for count, size in zip(counts, sizes, strict=True))


@pytest.fixture(scope="module")
def resnet50() -> list[LayerCost]:
    return layer_costs(ResNet50(1000), (3, 224, 224))


@pytest.mark.parametrize(
    ("density", "first_dense", "erk"),
    [(0.2, 912, 1692), (0.1, 515, 989), (0.05, 317, 498), (0.035, 257, 348)],
)
def test_costs_of_resnet50_counted_layer_by_layer(
    resnet50: list[LayerCost], density: float, first_dense: int, erk: int
) -> None:
    """Compare millions of multiply-accumulates for the two allocations of RigL's paper."""

    def mmacs(densities: list[float]) -> float:
        return sum(layer.macs * share for layer, share in zip(resnet50, densities, strict=True)) / 1e6

    shapes = [layer.shape for layer in resnet50]
    assert mmacs([1.0, *uniform(shapes[1:], density)]) == pytest.approx(first_dense, abs=0.5)
    assert mmacs(erdos_renyi_kernel(shapes, density)) == pytest.approx(erk, abs=0.5)
