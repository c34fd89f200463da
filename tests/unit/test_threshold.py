"""The global threshold against numpy's quantile, and how many weights it makes fall."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from st3sweep.sparse.methods.st3 import ST3
from st3sweep.sparse.threshold import global_threshold

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
def test_so_many_fall_when_none_tie(whole: list[int], ratio: float, cut: int) -> None:
    values = torch.tensor(whole, dtype=torch.float64)
    parts = [part for part in (values[:cut].reshape(-1, 1), values[cut:]) if part.numel()]
    threshold = global_threshold(parts, ratio)
    assert threshold == global_threshold([values], ratio), "how the scores are split into layers does not matter"
    position = (len(whole) - 1) * ratio
    if position - math.floor(position) < 1 - 1e-6:  # interpolation next to the upper score may round to it
        assert int((values <= threshold).sum()) == math.floor(position) + 1


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.999])
def test_all_equal(ratio: float) -> None:
    assert global_threshold([torch.full((7,), 2.5), torch.full((2, 3), 2.5)], ratio) == 2.5


def test_by_hand() -> None:
    layers = [torch.tensor([[4.0, 1.0], [3.0, 0.0]]), torch.tensor([2.0])]
    assert [float(global_threshold(layers, ratio)) for ratio in (0, 0.25, 0.375, 0.5, 0.9)] == pytest.approx(
        [0, 1, 1.5, 2, 3.6]
    )
    assert global_threshold([torch.tensor([5.0])], 0.7) == 5


def test_a_weight_at_the_threshold_falls() -> None:
    weights = [torch.tensor([[5.0, -1.0], [-3.0, 2.0]]), torch.tensor([[4.0]])]
    method = ST3(weights, target=0.5, soft=False, rescale=False)
    method.refresh(1.0, weights)
    assert [w.tolist() for w in method.sparsify(weights) or []] == [[[5, 0], [0, 0]], [[4]]]


@pytest.mark.parametrize("ratio", [1.0, -0.1, math.nan])
def test_a_ratio_out_of_range_is_an_error(ratio: float) -> None:
    with pytest.raises(ValueError, match=f"got {ratio}"):
        global_threshold([torch.ones(3)], ratio)
