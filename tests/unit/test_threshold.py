"""Test the global threshold against numpy's quantile, and the number of weights that it prunes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from make_methods import st3

from st3sweep.sparse import threshold
from st3sweep.sparse.threshold import global_threshold, mac_threshold

RATIOS = st.floats(0, 1, exclude_max=True)


def scores(elements: st.SearchStrategy[float], dtype: type = np.float64) -> st.SearchStrategy[np.ndarray]:
    return arrays.arrays(dtype, st.integers(1, 60), elements=elements)


@given(values=scores(st.floats(0, 1e6)), ratio=RATIOS)
def test_is_the_linear_quantile(values: np.ndarray, ratio: float) -> None:
    found = global_threshold([torch.from_numpy(values)], ratio)
    assert found.shape == ()
    np.testing.assert_allclose(found, np.quantile(values, ratio, method="linear"), rtol=1e-12)


@given(values=scores(st.sampled_from([0.0, 0.5, 1.0])), ratio=RATIOS)
def test_is_the_linear_quantile_where_scores_tie(values: np.ndarray, ratio: float) -> None:
    np.testing.assert_allclose(
        global_threshold([torch.from_numpy(values)], ratio), np.quantile(values, ratio), rtol=1e-12
    )


@given(values=scores(st.floats(0, 1e6, width=32), np.float32), ratio=RATIOS)
def test_is_the_linear_quantile_in_float32(values: np.ndarray, ratio: float) -> None:
    found = global_threshold([torch.from_numpy(values)], ratio)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, np.quantile(values.astype(np.float64), ratio), rtol=1e-6, atol=1e-38)


@given(
    whole=st.lists(st.integers(0, 10**6), min_size=1, max_size=60, unique=True), ratio=RATIOS, cut=st.integers(0, 60)
)
def test_the_number_of_pruned_weights_is_exact_without_ties(whole: list[int], ratio: float, cut: int) -> None:
    values = torch.tensor(whole, dtype=torch.float64)
    parts = [part for part in (values[:cut].reshape(-1, 1), values[cut:]) if part.numel()]
    found = global_threshold(parts, ratio)
    assert found == global_threshold([values], ratio), "the split of the scores into layers does not matter"
    position = (len(whole) - 1) * ratio
    if position - math.floor(position) < 1 - 1e-6:  # interpolation next to the upper score may round to it
        assert int((values <= found).sum()) == math.floor(position) + 1


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.999])
def test_all_equal(ratio: float) -> None:
    assert global_threshold([torch.full((7,), 2.5), torch.full((2, 3), 2.5)], ratio) == 2.5


def test_by_hand() -> None:
    layers = [torch.tensor([[4.0, 1.0], [3.0, 0.0]]), torch.tensor([2.0])]
    assert [float(global_threshold(layers, ratio)) for ratio in (0, 0.25, 0.375, 0.5, 0.9)] == pytest.approx(
        [0, 1, 1.5, 2, 3.6]
    )
    assert global_threshold([torch.tensor([5.0])], 0.7) == 5


def test_a_weight_at_the_threshold_is_pruned() -> None:
    weights = [torch.tensor([[5.0, -1.0], [-3.0, 2.0]]), torch.tensor([[4.0]])]
    method = st3(weights, target=0.5, soft=False, rescale=False)
    method.refresh(1.0, weights)
    assert [w.tolist() for w in method.sparsify(weights) or []] == [[[5, 0], [0, 0]], [[4]]]


@pytest.mark.parametrize("ratio", [1.0, -0.1, math.nan])
def test_a_ratio_out_of_range_is_an_error(ratio: float) -> None:
    with pytest.raises(ValueError, match=f"got {ratio}"):
        global_threshold([torch.ones(3)], ratio)


# -- models large enough for a sample to bracket the threshold ------------------------------------------------------

rng = np.random.default_rng(0)
LARGE = {
    "normal": [rng.standard_normal((300, 40, 3, 3), np.float32), rng.standard_normal((1000, 300), np.float32) * 0.01],
    "sorted": [np.linspace(-1, 1, 500_000, dtype=np.float32)],
    "periodic": [np.tile(np.arange(7, dtype=np.float32), 100_000), np.tile(np.arange(64, dtype=np.float32), 5_000)],
    "mostly zero": [np.where(rng.random(600_000) < 0.99, 0, rng.random(600_000)).astype(np.float32)],
    "few are huge": [np.concatenate([np.full(400_000, 1e-30), np.arange(1.0, 9.0)]).astype(np.float32)],
    "doubles": [rng.standard_normal(400_000)],
    "many": [rng.standard_normal(2_200_000).astype(np.float32), rng.standard_normal(300_000).astype(np.float32)],
}


def in_order(weights: list[torch.Tensor], scales: list[float]) -> torch.Tensor:
    flat = torch.cat([weight.reshape(-1).abs() * scale for weight, scale in zip(weights, scales, strict=True)])
    return flat.sort().values


def quantile(ordered: torch.Tensor, ratio: float) -> torch.Tensor:
    position = (len(ordered) - 1) * ratio
    below = math.floor(position)
    return torch.lerp(ordered[below], ordered[min(below + 1, len(ordered) - 1)], position - below)


def by_sorting(weights: list[torch.Tensor], ratio: float, scales: list[float]) -> torch.Tensor:
    return quantile(in_order(weights, scales), ratio)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", LARGE)
def test_is_what_sorting_gives_to_the_last_bit(name: str, threads: int) -> None:
    weights = [torch.from_numpy(array) for array in LARGE[name]]
    if weights[0].dim() == 4:
        weights[0] = weights[0].to(memory_format=torch.channels_last)
    scales = [1.0, 3.7][: len(weights)]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    ordered = in_order(weights, scales)
    try:
        for ratio in (0.0, 1e-5, 0.3, 0.9, 0.98, 0.99999, 1 - 1e-9):
            assert torch.equal(global_threshold(weights, ratio, scales), quantile(ordered, ratio)), ratio
    finally:
        torch.set_num_threads(before)


def test_a_bracket_that_misses_does_not_change_the_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, ones = [torch.from_numpy(array) for array in LARGE["normal"]], [1.0, 1.0]
    monkeypatch.setattr(threshold, "_bracket", lambda *_: (5.0, 6.0))
    assert torch.equal(global_threshold(weights, 0.5, ones), by_sorting(weights, 0.5, ones))
    budget = 200_000.0
    left = sum(int((weight.abs() > mac_threshold(weights, [1.0, 1.0], budget, ones)).sum()) for weight in weights)
    assert left == budget


def test_nan_weights_raise_no_error() -> None:
    """Divergence is detected by the loss of such a model."""
    assert global_threshold([torch.full((500_000,), math.nan)], 0.5).isnan()
    global_threshold([torch.tensor([1.0, math.nan, 2.0])], 0.5)
    assert mac_threshold([torch.full((500_000,), math.nan)], [2.0], 1000.0, [1.0]).isnan()
    mac_threshold([torch.tensor([1.0, math.nan, 2.0])], [2.0], 4.0, [1.0])


@given(
    layers=st.lists(
        st.tuples(st.lists(st.integers(-50, 50), min_size=1, max_size=20), st.integers(1, 30)), min_size=1, max_size=4
    ),
    part=st.floats(0, 1, exclude_max=True),
)
def test_the_least_threshold_that_leaves_no_more_than_the_budget(
    layers: list[tuple[list[int], int]], part: float
) -> None:
    weights = [torch.tensor(values, dtype=torch.float64) for values, _ in layers]
    macs = [float(cost) for _, cost in layers]
    budget = part * sum(cost * len(weight) for cost, weight in zip(macs, weights, strict=True))
    found = mac_threshold(weights, macs, budget, [1.0] * len(layers))

    def left(at: float) -> float:
        return sum(cost * int((weight.abs() > at).sum()) for cost, weight in zip(macs, weights, strict=True))

    assert mac_threshold(weights, macs, torch.tensor(budget, dtype=torch.float64), [1.0] * len(layers)) == found
    assert left(float(found)) <= budget + 1e-9
    assert left(float(found) - 0.5) > budget - 1e-9
    assert min(abs(float(found) - abs(value)) for values, _ in layers for value in values) < 1e-12


@pytest.mark.parametrize(
    ("target", "budgeted", "densities"), [(0.5, False, [0.5, 0.5]), (0.9, False, [0.0, 0.5]), (0.4, True, [1.0, 0.5])]
)
def test_densities_at_the_end_of_the_ramp_by_hand(target: float, budgeted: bool, densities: list[float]) -> None:
    """0.4 of 24 multiply-accumulates, 9.6, are to be removed: pruning the weight of 0.5, which costs 10, is enough."""
    weights = [torch.tensor([[1.0, -2.0], [3.0, 4.0]]), torch.tensor([[-10.0, 0.5]])]
    asked = {"gflops_budget": (1 - target) * 24e-9} if budgeted else {"target": target}
    method = st3(weights, **asked, macs_per_weight=[1.0, 10.0])
    assert method.projected_densities(weights) == densities
    method.refresh(1.0, weights)
    assert method.projected_densities(weights) is None


@pytest.mark.parametrize("budget", [-1.0, 6.0, 7.0])
def test_a_budget_out_of_range_is_an_error(budget: float) -> None:
    with pytest.raises(ValueError, match=r"budget must be in \[0, 6\), got"):
        mac_threshold([torch.ones(3)], [2.0], budget, [1.0])
