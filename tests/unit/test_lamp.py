"""Test LAMP against its definition, and its guarantee that no layer is emptied."""

from __future__ import annotations

import math

import pytest
import torch
from compare import thresholds_of
from hypothesis import given
from hypothesis import strategies as st
from make_methods import gmp, st3
from torch import Tensor

from st3sweep.sparse import lamp
from st3sweep.sparse.lamp import by_sorting, lamp_scores, lamp_thresholds, thresholds_of_largest
from st3sweep.sparse.masks import nonzeros

values = st.floats(-1e3, 1e3, width=32).filter(lambda value: value == 0 or abs(value) > 1e-3)
layer = st.lists(values, min_size=1, max_size=30)


def by_definition(weight: list[float]) -> list[float]:
    """Return each weight's square over the sum of its own and of those after it in the order of magnitude."""
    order = sorted(range(len(weight)), key=lambda index: (abs(weight[index]), index))
    scores = [0.0] * len(weight)
    for place, index in enumerate(order):
        if weight[index]:
            scores[index] = weight[index] ** 2 / math.fsum(weight[other] ** 2 for other in order[place:])
    return scores


def test_scores_by_hand() -> None:
    weight = torch.tensor([[3.0, -1.0], [0.0, 2.0]])
    assert lamp_scores(weight).tolist() == [[1.0, pytest.approx(1 / 14)], [0.0, pytest.approx(4 / 13)]]
    assert lamp_scores(torch.tensor([2.0, -2.0])).tolist() == [0.5, 1.0]
    assert lamp_scores(torch.zeros(2, 2)).tolist() == [[0.0, 0.0], [0.0, 0.0]]


@given(layer)
def test_scores_are_those_of_the_definition(weight: list[float]) -> None:
    assert lamp_scores(torch.tensor(weight)).tolist() == pytest.approx(by_definition(weight), rel=1e-12)


@given(st.lists(layer, min_size=1, max_size=5), st.floats(0, 0.999))
def test_the_lowest_scores_of_the_whole_model_are_pruned(layers: list[list[float]], ratio: float) -> None:
    weights = [torch.tensor(weight) for weight in layers]
    total = sum(map(len, layers))
    kept = total - math.floor((total - 1) * ratio) - 1
    scores = [(score, -place) for place, score in enumerate(s for weight in layers for s in by_definition(weight))]
    alive = {-place for _, place in sorted(scores, reverse=True)[:kept]}
    place = 0
    for weight, tau in zip(weights, lamp_thresholds(weights, ratio), strict=True):
        fallen = [abs(float(w)) for index, w in enumerate(weight, place) if index not in alive]
        assert float(tau) == max(fallen, default=0.0)
        place += len(weight)


# Ties within and between layers, magnitudes whose squares vanish beside others, and layers of one scale or of many.
coarse = st.lists(st.sampled_from([0.0, 1.0, -1.0, 2.0, 3.0, 1e-20, 1e9]), min_size=1, max_size=60)
drawn = st.builds(
    lambda size, seed, scale: (torch.randn(size, generator=torch.Generator().manual_seed(seed)) * scale).tolist(),
    st.integers(1, 400), st.integers(0, 5), st.sampled_from([1.0, 1e-3, 1e6]),
)  # fmt: skip


@given(
    st.lists(coarse | drawn, min_size=1, max_size=6), st.floats(0, 1), st.sampled_from([torch.float32, torch.float64])
)
def test_thresholds_of_the_largest_are_those_of_sorting_all(
    layers: list[list[float]], share: float, dtype: torch.dtype
) -> None:
    weights = [torch.tensor(layer, dtype=dtype) for layer in layers]
    kept = round(share * sum(map(len, layers)))
    assert torch.equal(thresholds_of_largest(weights, kept), by_sorting(weights, kept))


def test_few_weights_are_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 95 % a small layer, which keeps more of its weights, is looked at again and again; the others are not."""
    torch.manual_seed(0)
    weights = [torch.randn(200), torch.randn(4, 5_000), torch.randn(20_000)]
    looked_at: list[tuple[int, int]] = []
    top = lamp._top
    monkeypatch.setattr(lamp, "_top", lambda layer, count: looked_at.append((len(layer), count)) or top(layer, count))
    found = lamp_thresholds(weights, 0.95)
    assert [count for size, count in looked_at if size == 200] == [16, 32, 64, 128, 256]
    assert [count for size, count in looked_at if size == 20_000] == [1501, 1501]
    assert torch.equal(found, by_sorting(weights, 40_199 - math.floor(40_199 * 0.95)))


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=6), st.lists(st.floats(1e-6, 1e6), min_size=6, max_size=6),
    st.floats(0, 1, exclude_max=True),
)  # fmt: skip
def test_no_layer_is_emptied(sizes: list[int], scales: list[float], ratio: float) -> None:
    """This holds for any magnitudes of the layers, while at least as many weights are kept as there are layers."""
    generator = torch.Generator().manual_seed(0)

    def weights() -> list[Tensor]:
        drawn = [torch.randn(1, size, generator=generator.manual_seed(size), dtype=torch.float64) for size in sizes]
        return [weight * scale for weight, scale in zip(drawn, scales, strict=False)]

    total = sum(sizes)
    left = total - math.floor((total - 1) * ratio) - 1
    thresholds = lamp_thresholds(weights(), ratio)
    alive = [int((weight.abs() > tau).sum()) for weight, tau in zip(weights(), thresholds, strict=True)]
    assert sum(alive) == left
    assert left < len(sizes) or min(alive) >= 1
    pruned = weights()
    method = gmp(pruned, target=ratio, allocation="global", criterion="lamp")
    method.refresh(1.0, pruned)
    assert sum(nonzeros(pruned)) < len(sizes) or min(nonzeros(pruned)) >= 1


def test_plain_magnitude_would_empty_a_layer() -> None:
    """Guard the test above: on the same weights l1 empties the layer of small ones."""
    weights = [torch.rand(1, 50) + 1, (torch.rand(1, 50) + 1) / 100]
    for criterion, survives in (("l1", False), ("lamp", True)):
        method = st3(weights, target=0.8, criterion=criterion)
        method.refresh(1.0, weights)
        assert bool(method.sparsify(weights)[1].any()) == survives  # type: ignore[index]
        pruned = [weight.clone() for weight in weights]
        gmp(pruned, target=0.8, allocation="global", criterion=criterion).refresh(1.0, pruned)
        assert bool(pruned[1].any()) == survives


def test_with_st3_the_rest_of_the_method_is_unchanged() -> None:
    """The scores of 4, 2, 1 are 1, 0.2, 0.048, those of 3, 2, 2.5 are 1, 0.208, 0.41; three of six are pruned."""
    weights = [torch.tensor([[4.0, -2.0, 1.0]]), torch.tensor([[3.0, 2.0, 2.5]])]
    method = st3(weights, target=0.5, criterion="lamp", rescale=False)
    method.refresh(1.0, weights)
    assert thresholds_of(method) == [2.0, 2.0]
    found = method.sparsify(weights)
    assert found is not None
    assert [weight.tolist() for weight in found] == [[[2.0, 0.0, 0.0]], [[1.0, 0.0, 0.5]]]


@pytest.mark.parametrize("ratio", [-0.1, 1.0])
def test_a_ratio_out_of_range(ratio: float) -> None:
    with pytest.raises(ValueError, match=r"sparsity must be in \[0, 1\), got"):
        lamp_thresholds([torch.ones(3)], ratio)
