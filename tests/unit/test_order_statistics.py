"""Test the selection of order statistics on a device, in plain torch and by Triton's kernels, against sorting."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from importlib.util import find_spec
from itertools import accumulate

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from st3sweep.sparse import flat, selection
from st3sweep.sparse.selection import least_by_digits, two_by_digits, two_smallest
from st3sweep.sparse.threshold import global_threshold, mac_threshold

NUMBERS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, 1e-45, -2e-45, 1.5e-38, 3e38, math.nan]),
    st.floats(width=32),
)
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")


def in_order(row: Tensor) -> Tensor:
    return row.abs().sort().values


def bits(values: Tensor) -> list[int]:
    """Return the bits, with all NaN as one."""
    return (
        values.nan_to_num(-1.0, math.inf).view(torch.int32 if values.dtype == torch.float32 else torch.int64).tolist()
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(max_examples=40)
@given(values=st.lists(NUMBERS, min_size=1, max_size=12))
def test_every_rank_by_digits(dtype: torch.dtype, values: list[float]) -> None:
    row = torch.tensor(values, dtype=dtype)
    expected = in_order(row)
    for rank in range(len(row)):
        following = min(rank + 1, len(row) - 1)
        assert bits(two_by_digits(row, torch.tensor(rank))) == bits(expected[[rank, following]])
        assert bits(two_smallest(row, torch.tensor(rank))) == bits(expected[[rank, following]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(max_examples=40)
@given(
    layers=st.lists(st.tuples(NUMBERS.filter(lambda value: not math.isnan(value)), st.integers(0, 50)), min_size=1),
    data=st.data(),
)
def test_the_least_with_a_mass_by_digits(
    dtype: torch.dtype, layers: list[tuple[float, int]], data: st.DataObject
) -> None:
    total = sum(mass for _, mass in layers)
    if total == 0:
        return
    wanted = data.draw(st.integers(1, total))
    row, masses = torch.tensor([value for value, _ in layers], dtype=dtype), [mass for _, mass in layers]
    order = sorted(range(len(row)), key=lambda index: abs(float(row[index])))
    reached = accumulate(masses[index] for index in order)
    last = next(index for index, mass in zip(order, reached, strict=True) if mass >= wanted)
    found = least_by_digits(row, torch.tensor(masses).double(), torch.tensor(float(wanted)).double())
    assert bits(found) == bits(row[last].abs())


# -- Triton's kernels: interpreted on a CPU, compiled for a GPU that need not be there -------------------------------

INTERPRETED = """
import math
import torch
from st3sweep.sparse import selection_kernels as kernels

kernels._BLOCK = 1 << 16  # the interpreter runs one program after the other
torch.manual_seed(0)
special = torch.tensor([0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, 1e-45, -2e-45, 1.5e-38, 3e38])
cases = {
    "one": (torch.tensor([-2.5]), 1 << 20),
    "special": (special[torch.randint(len(special), (500,))], 1 << 20),
    "normal, read whole": (torch.randn(30_000), 1 << 20),
    "normal, by a bracket": (torch.randn(200_000), 1 << 16),
    "special, more in the bracket than fit": (special[torch.randint(len(special), (100_000,))], 1 << 16),
    "zeros": (torch.zeros(70_000), 1 << 16),
    "sorted": (torch.linspace(-1, 1, 70_000), 1 << 16),
}
for name, (row, kernels._DIRECT) in cases.items():
    ordered, n = row.abs().sort().values, len(row)
    for rank in {0, n * 9 // 10, n - 1}:
        found = kernels.two_smallest(row, torch.tensor(rank))
        expected = ordered[[rank, min(rank + 1, n - 1)]]
        assert torch.equal(found.view(torch.int32), expected.view(torch.int32)), (name, rank, found, expected)
    print(name, flush=True)
"""


@pytest.mark.slow
@needs_triton
def test_kernels_in_the_interpreter_select_as_sorting() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", INTERPRETED], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 7


@needs_triton
def test_where_kernels_do_not_run_a_warning_says_why() -> None:
    """They do not on a CPU, as they would not on a machine without a C compiler."""
    with pytest.warns(RuntimeWarning, match=r"^Triton does not run \(.+\): thresholds take plain torch$"):
        assert selection.kernels(torch.device("cpu")) is None


@pytest.mark.slow
@needs_triton
def test_kernels_compile_without_a_gpu() -> None:
    from triton import compile as compiled
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from st3sweep.sparse import selection_kernels as kernels

    keys, numbers = "*i32", "*i64"
    count = dict.fromkeys(("keys", "gathered", "histograms"), keys) | {"plan": numbers, "stride": "i32"}
    counted = {**count, "DIGIT": "constexpr", "BLOCK": "constexpr"}
    gather = dict.fromkeys(("keys", "bracket", "gathered"), keys) | {"counts": numbers, "n": "i32", "capacity": "i32"}
    plan = {"rank": numbers, "plan": numbers, "n": "i32"}
    for kernel, signature, constants in [
        (kernels._plan_all, plan, {}),
        (kernels._plan_sample, {**plan, "size": "i32", "deviation": "fp32"}, {}),
        (kernels._plan_gathered, {**plan, "counts": numbers, "capacity": "i32"}, {}),
        *((kernels._count, counted, {"DIGIT": digit, "BLOCK": 4096}) for digit in (0, 3)),
        (kernels._count, {**counted, "stride": "constexpr"}, {"DIGIT": 1, "BLOCK": 4096, "stride": 1}),
        (kernels._write, {"plan": numbers, "histograms": keys, "found": keys}, {}),
        (kernels._gather, {**gather, "BLOCK": "constexpr"}, {"BLOCK": 4096}),
    ]:
        source = ASTSource(kernel, signature=signature, constexprs=constants)
        assert compiled(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]


# -- large models ----------------------------------------------------------------------------------------------------


def resnet50_sized(device: str = "cpu") -> list[Tensor]:
    """Return 25.5 million weights in layers of different scales, with zeros and ties."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(64, 3, 7, 7), *[(512, 512, 3, 3)] * 10, (1000, 1900)]
    layers = [torch.randn(size, generator=generator) / math.prod(size[1:]) ** 0.5 for size in sizes]
    layers[1][:100] = 0.0
    layers[2][:100] = 0.01
    return [layer.to(device) for layer in layers]


@pytest.mark.slow
def test_the_threshold_of_a_large_model_in_the_form_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = resnet50_sized()
    scales, macs = [1.0, 3.7] * 6, [float(cost) for cost in range(1, 13)]
    total = sum(cost * weight.numel() for cost, weight in zip(macs, weights, strict=True))
    ratios = (0.0, 0.5, 0.9, 1 - 1e-9)
    expected = [(global_threshold(weights, ratio, scales), global_threshold(weights, ratio)) for ratio in ratios]
    budgets = [mac_threshold(weights, macs, (1 - ratio) * total * 0.999, scales) for ratio in ratios]
    monkeypatch.setattr(flat, "launch_bound", lambda _: True)
    for ratio, (scaled, plain), budget in zip(ratios, expected, budgets, strict=True):
        on_device = torch.tensor(ratio, dtype=torch.float64)
        assert global_threshold(weights, on_device, scales) == scaled
        assert global_threshold(weights, on_device) == plain
        assert mac_threshold(weights, macs, (1 - on_device) * total * 0.999, scales) == budget


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("size", [1, 1000, 300_000, 25_500_000])
def test_the_threshold_on_a_gpu_is_that_of_a_cpu(size: int) -> None:
    """And a graph that holds the selection gives it for every ratio, on weights that change."""
    row = torch.randn(size)
    row[::7], row[1::11] = 0.0, 0.25
    weights, ratio = [row.cuda()], torch.zeros((), dtype=torch.float64, device="cuda")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(2):
            global_threshold(weights, ratio)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            found = global_threshold(weights, ratio)
        for step, value in enumerate(np.linspace(0, 1, 9, endpoint=False).tolist()):
            row *= 1.0 + 0.1 * step
            weights[0].copy_(row)
            ratio.fill_(value)
            graph.replay()
            stream.synchronize()
            assert torch.equal(found.cpu(), global_threshold([row], value)), value
