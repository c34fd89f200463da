"""Test layers as one row: memory order, numbers of layers and of channels, and what a GPU computes by them."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from compare import thresholds_of
from hypothesis import given
from torch import Tensor

from st3sweep.sparse import flat, selection
from st3sweep.sparse.lamp import lamp_thresholds
from st3sweep.sparse.method import Method
from st3sweep.sparse.methods.st3 import ST3
from st3sweep.sparse.threshold import global_threshold, smallest_magnitudes

# 3x3, 1x1 and depthwise kernels, whose strides differ in the two layouts though not always their order, and linear ones
SHAPES = [(4, 3, 3, 3), (5, 4, 1, 1), (6, 1, 3, 3), (3, 7), (1, 2, 1, 2)]


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat, "launch_bound", lambda _: True)


def layers(layout: str) -> list[Tensor]:
    """Return weights of ``SHAPES``, the last linear one transposed in memory."""
    torch.manual_seed(0)
    weights = [torch.randn(shape, dtype=torch.float64) for shape in SHAPES]
    if layout == "channels last":
        weights = [w.to(memory_format=torch.channels_last) if w.dim() == 4 else w for w in weights]
    if layout == "transposed":
        weights = [w.transpose(0, 1).contiguous().transpose(0, 1) for w in weights]
    return weights


every_layout = pytest.mark.parametrize("layout", ["contiguous", "channels last", "transposed"])


@pytest.mark.usefixtures("as_on_a_gpu")
@every_layout
def test_a_row_has_all_weights_and_returns_them(layout: str) -> None:
    weights = layers(layout)
    (group,) = flat.groups(weights)
    row = group.flatten(weights)
    assert all(map(torch.equal, group.unflatten(row), weights))
    logical = torch.cat([weight.flatten() for weight in weights])
    assert torch.equal(group.to_memory_order(logical), row)
    assert torch.equal(group.from_memory_order(row), logical)
    others = [torch.zeros(shape, dtype=torch.float64) for shape in SHAPES]
    group.write(row, others)
    assert all(map(torch.equal, others, weights)), "into tensors of another layout too"
    assert torch.equal(group.flatten(others), row), "and out of them"


@pytest.mark.parametrize("together", [True, False])
@every_layout
def test_numbers_of_layers_and_channels(layout: str, together: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat, "launch_bound", lambda _: together)
    weights = layers(layout)
    tau = torch.arange(len(weights)) / 10
    assert len(flat.groups(weights)) == (1 if together else len(weights))
    for group in flat.groups(weights):
        own, row = weights[group.layers], group.flatten(weights).clone()
        spread = group.unflatten(group.of_layers(tau).expand(group.n).contiguous())
        assert [part.unique().tolist() for part in spread] == [[value] for value in tau[group.layers].tolist()]
        assert group.reduce_layers(row, "sum").tolist() == pytest.approx([float(weight.sum()) for weight in own])
        assert group.reduce_layers(row, "max").tolist() == [float(weight.max()) for weight in own]
        means = torch.cat([weight.flatten(1).mean(1) for weight in own])
        assert group.channel_means(row).tolist() == pytest.approx(means.tolist())
        in_order = [float(value) for weight in own for value in sorted(weight.flatten().tolist())]
        assert group.sort_layers(row).tolist() == in_order
        ends = [
            math.fsum(values[at:])
            for values in (w.tolist() for w in row.split(group.sizes))
            for at in range(len(values))
        ]
        assert group.sums_to_end(row).tolist() == pytest.approx(ends, abs=1e-12)
        factors = torch.arange(1.0, len(means) + 1, dtype=torch.float64)
        scaled, at = group.unflatten(group.scale_channels_(row, factors)), 0
        for weight, part in zip(own, scaled, strict=True):
            of_layer = factors[at : at + len(weight)].view(-1, *[1] * (weight.dim() - 1))
            assert torch.equal(part, weight * of_layer)
            at += len(weight)


@pytest.mark.parametrize("together", [True, False])
def test_masks_of_another_layout_and_missing_gradients(together: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat, "launch_bound", lambda _: together)
    weights = layers("channels last")
    masks = [weight.contiguous() > 0 for weight in weights]
    expected = [weight * mask for weight, mask in zip(weights, masks, strict=True)]
    flat.multiply_([None, *weights[1:]], masks)
    assert not torch.equal(weights[0], expected[0])
    assert all(map(torch.equal, weights[1:], expected[1:]))
    flat.multiply_([None], masks[:1])


NUMBERS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, 1e-45, -2e-45, 1.5e-38, 3e38]),
    st.floats(width=32, allow_nan=False),
)


@pytest.mark.filterwarnings("ignore:overflow")
@given(st.lists(NUMBERS, min_size=1, max_size=40), st.floats(0, 1, exclude_max=True), st.data())
def test_the_threshold_of_a_gpu_is_that_of_a_cpu_to_the_last_bit(
    values: list[float], ratio: float, data: st.DataObject
) -> None:
    """With ties, zeros, denormals and infinities, and for a ratio that only the device knows."""
    cut = data.draw(st.integers(0, len(values) - 1))
    weights = [part for part in torch.tensor(values).split([cut, len(values) - cut]) if len(part)]
    scales = [1.0, 2.5][: len(weights)]
    expected, with_scales = global_threshold(weights, ratio), global_threshold(weights, ratio, scales)
    counts = [data.draw(st.integers(0, len(weight))) for weight in weights]
    smallest = smallest_magnitudes(weights, counts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flat, "launch_bound", lambda _: True)
        patch.setattr(selection, "_SORTED", data.draw(st.sampled_from([0, 100])))
        for sparsity in (ratio, torch.tensor(ratio, dtype=torch.float64)):
            same(global_threshold(weights, sparsity), expected)
            same(global_threshold(weights, sparsity, scales), with_scales)
        same(smallest_magnitudes(weights, counts), smallest)


def same(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("ratio", [0.0, 0.2, 0.5, 0.9])
def test_lamp_on_a_gpu_ranks_as_on_a_cpu(ratio: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer of tiny weights beside one of large ones: a running sum over both must not lose the tiny ones."""
    torch.manual_seed(0)
    weights = [torch.randn(8, 30), torch.randn(8, 30) * 1e-12, torch.zeros(2, 3), torch.randn(8, 30) * 1e6]
    expected = lamp_thresholds(weights, ratio)
    monkeypatch.setattr(flat, "launch_bound", lambda _: True)
    assert torch.equal(lamp_thresholds(weights, ratio), expected)


def test_a_checkpoint_with_a_list_of_thresholds() -> None:
    """Version 0.1 wrote one tensor a layer."""
    method = ST3([torch.ones(2, 2), torch.ones(2, 2)], target=0.5)
    method.load_state_dict({"ratio": 0.25, "tau": [torch.tensor(0.5), torch.tensor(1.0)]})
    assert thresholds_of(method) == [0.5, 1.0]
    method.load_state_dict({"ratio": 0.0, "tau": None})
    assert thresholds_of(method) == [0.0, 0.0]


def test_the_example_of_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "methods.md").read_text()
    (example,) = re.findall(r"^```python\n(from st3sweep.sparse.flat.*?)^```", page, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"Method": Method}
    exec(example, names)
    weights = [torch.tensor([[1.0, -2.0, 3.0]]), torch.tensor([[-6.0], [4.0], [5.0]])]
    assert [w.tolist() for w in names["Halved"]().sparsify(weights)] == [[[0, 0, 3]], [[-6], [0], [0]]]


def test_a_kernel_of_one_pixel_needs_no_copy() -> None:
    """Its strides differ in the two layouts, its memory does not; convolutions return gradients of either."""
    weight = torch.randn(5, 4, 1, 1).to(memory_format=torch.channels_last)
    gradient = torch.randn(5, 4).as_strided((5, 4, 1, 1), (4, 1, 1, 1))
    assert weight.stride() != gradient.stride()
    (group,) = flat.groups([weight])
    assert group.flatten([gradient]).data_ptr() == gradient.data_ptr()
