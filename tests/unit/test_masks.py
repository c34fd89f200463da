"""Test masks of the largest scores, which are exact, and random masks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from st3sweep.sparse.masks import largest, random_masks


@pytest.mark.parametrize(
    ("count", "chosen"),
    [
        (0, ([0, 0, 0], [[0, 0], [0, 0]])),
        (1, ([0, 0, 0], [[0, 1], [0, 0]])),
        (2, ([0, 1, 0], [[0, 1], [0, 0]])),  # 4, then the first of three 3s
        (3, ([0, 1, 0], [[1, 1], [0, 0]])),
        (4, ([0, 1, 0], [[1, 1], [1, 0]])),
        (7, ([1, 1, 1], [[1, 1], [1, 1]])),
    ],
)
def test_the_largest_of_two_tensors_with_ties(count: int, chosen: tuple[list[int], list[list[int]]]) -> None:
    scores = [torch.tensor([1.0, 3.0, -torch.inf]), torch.tensor([[3.0, 4.0], [3.0, 0.0]])]
    assert [mask.int().tolist() for mask in largest(scores, count)] == list(chosen)


@given(data=st.data(), values=st.lists(st.integers(0, 5), min_size=1, max_size=60))
def test_the_largest_are_those_of_a_stable_sort(data: st.DataObject, values: list[int]) -> None:
    count = data.draw(st.integers(0, len(values)))
    order = sorted(range(len(values)), key=lambda index: (-values[index], index))
    (mask,) = largest([torch.tensor(values, dtype=torch.float32)], count)
    assert mask.nonzero().flatten().tolist() == sorted(order[:count])


def test_masks_do_not_depend_on_the_memory_layout() -> None:
    plain = torch.tensor([1.0, 2.0]).repeat(12).reshape(2, 3, 2, 2)
    last = plain.to(memory_format=torch.channels_last)
    (a,), (b,) = largest([plain], 7), largest([last], 7)
    assert torch.equal(a, b)
    assert b.stride() == last.stride() != a.stride()
    (a,), (b,) = random_masks([plain], [7], 0), random_masks([last], [7], 0)
    assert torch.equal(a, b)
    assert b.stride() == last.stride()


def test_random_masks_have_exact_counts_and_follow_the_seed_alone() -> None:
    weights = [torch.zeros(4, 5), torch.zeros(3, 2, 2, 2)]
    first = random_masks(weights, [7, 24], seed=3)
    assert [int(mask.sum()) for mask in first] == [7, 24]
    torch.manual_seed(99)
    assert all(torch.equal(a, b) for a, b in zip(first, random_masks(weights, [7, 24], seed=3), strict=True))
    assert not torch.equal(first[0], random_masks(weights, [7, 24], seed=4)[0])


def test_every_weight_is_as_likely_as_any_other() -> None:
    drawn = torch.stack([random_masks([torch.zeros(2, 5)], [3], seed)[0] for seed in range(2000)])
    # 2000 draws of probability 0.3: the standard deviation of a frequency is 0.0102.
    assert (drawn.double().mean(0) - 0.3).abs().max() < 5 * 0.0102


def test_a_random_mask_is_independent_of_the_initial_weights() -> None:
    """Both come from the same seed: a layer's initial weights are uniform, as are the numbers that choose a mask."""
    torch.manual_seed(0)
    weight = torch.nn.Linear(100, 100).weight
    (mask,) = random_masks([weight], [5000], seed=0)
    assert abs(torch.corrcoef(torch.stack([weight.detach().flatten(), mask.float().flatten()]))[0, 1]) < 0.05
