"""Test that packed weights come back bit by bit, at any density, and how many bytes they take."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from st3sweep.util.packed_weights import ideal_bytes, pack, unpack


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


@st.composite
def weights(draw: st.DrawFn) -> np.ndarray:
    """Bits of any floats, -0.0, infinities and all NaN among them, with runs of zeros of any length between them."""
    dtype = draw(st.sampled_from([np.float32, np.float16]))
    bits = draw(arrays.arrays(f"u{np.dtype(dtype).itemsize}", st.integers(0, 40)))
    runs = draw(st.lists(st.one_of(st.just(0), st.integers(0, 1100)), min_size=len(bits) + 1, max_size=len(bits) + 1))
    zeros = [np.zeros(run, bits.dtype) for run in runs]
    return np.concatenate([part for i in range(len(bits)) for part in (zeros[i], bits[i : i + 1])] + zeros[-1:]).view(
        dtype
    )


@given(weights())
def test_every_bit_comes_back(weight: np.ndarray) -> None:
    packed = pack(weight)
    assert same_bits(unpack(packed, weight.shape), weight)
    assert len(packed) == 2
    nonzeros = weight.view(f"u{weight.itemsize}") != 0
    assert same_bits(packed["values"], weight[nonzeros])
    assert sum(part.nbytes for name, part in packed.items() if name != "values") <= np.ceil(weight.size / 8)


@pytest.mark.parametrize("density", [0.0, 0.001, 0.02, 0.1, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(1,), (1, 1, 1, 1), (7, 5, 3, 3), (64, 64, 3, 3)])
def test_every_density_and_shape(density: float, shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    weight = np.where(random.random(shape) < density, random.standard_normal(shape), 0).astype(np.float32)
    assert same_bits(unpack(pack(weight), shape), weight)


def test_special_values_are_not_zeros() -> None:
    bits = np.array([0x80000000, 0x7FC00001, 0x7F800001, 0xFFC0BEEF, 0x00000001, 0x7F800000], np.uint32)
    weight = np.zeros(1000, np.float32)
    weight.view(np.uint32)[::200] = bits[:5]  # -0.0, a quiet and a signalling NaN, a payload, the least subnormal
    packed = pack(weight)
    assert packed["values"].view(np.uint32).tolist() == bits[:5].tolist()
    assert same_bits(unpack(packed, (1000,)), weight)


def test_gaps_worked_out_by_hand() -> None:
    """Non-zeros at 3, 4, 260 and 1025: 3, 0, 255 and 764 = 2 * 255 + 254 zeros before them."""
    weight = np.zeros(1030, np.float32)
    weight[[3, 4, 260, 1025]] = 1, 2, 3, 4
    packed = pack(weight)
    assert packed["gaps"].tolist() == [3, 0, 255, 0, 255, 255, 254]
    assert packed["values"].tolist() == [1, 2, 3, 4]


def test_mask_worked_out_by_hand() -> None:
    packed = pack(np.array([0, 1, 2, 0, 0, 0, 3, 4, 5, 0], np.float16).reshape(2, 5))
    assert packed["mask"].tolist() == [0b01100011, 0b10000000]
    assert packed["values"].tolist() == [1, 2, 3, 4, 5]


def test_the_smaller_form_is_taken() -> None:
    """1,000 weights take 125 bytes as a mask."""
    for count, form in ((124, "gaps"), (125, "mask")):
        weight = np.zeros(1000, np.float32)
        weight[:count] = 1.0
        assert set(pack(weight)) == {"values", form}
    weight = np.zeros(100_000, np.float32)  # 100 bytes of gaps if none were long; 391 each are
    weight[[50_000, 99_999]] = 1.0
    assert len(pack(weight)["gaps"]) == 50_000 // 255 + 1 + 49_998 // 255 + 1


@pytest.mark.parametrize(
    "damage",
    [
        {"values": np.ones(3, np.float32)},
        {"gaps": np.array([3, 255], np.uint8)},
        {"gaps": np.array([3, 90], np.uint8)},
        {"gaps": np.array([3], np.uint8)},
    ],
)
def test_parts_that_do_not_fit_together_are_refused(damage: dict[str, np.ndarray]) -> None:
    parts = {"values": np.ones(2, np.float32), "gaps": np.array([3, 4], np.uint8)}
    assert np.flatnonzero(unpack(parts, (50,))).tolist() == [3, 8]
    with pytest.raises(ValueError, match="not a packed weight of shape"):
        unpack({**parts, **damage}, (50,))


@pytest.mark.parametrize("mask", [[0b11000000], [0b10000000, 0b00000001], [0b10000000, 0b01000000, 0]])
def test_masks_that_do_not_fit_are_refused(mask: list[int]) -> None:
    with pytest.raises(ValueError, match="not a packed weight of shape"):
        unpack({"values": np.ones(2, np.float32), "mask": np.array(mask, np.uint8)}, (15,))


def test_the_ideal_worked_out_by_hand() -> None:
    """A quarter of 800 weights: 0.811278 bits each for the place, and 200 values of 4 bytes."""
    weight = np.zeros(800, np.float32)
    weight[::4] = -1.0
    assert ideal_bytes(weight) == pytest.approx(100 * 0.8112781 + 800, rel=1e-7)
    assert ideal_bytes(np.zeros(800, np.float32)) == 0
    assert ideal_bytes(np.ones(800, np.float16)) == 1600


@pytest.mark.parametrize("sparsity", [0.8, 0.85, 0.875, 0.9, 0.95, 0.98])
@pytest.mark.parametrize(("dtype", "most"), [(np.float32, 1.15), (np.float16, 1.20)])
def test_random_masks_are_near_the_ideal(sparsity: float, dtype: type, most: float) -> None:
    random = np.random.default_rng(1)
    weight = np.where(random.random(200_000) < sparsity, 0, random.standard_normal(200_000)).astype(dtype)
    assert sum(part.nbytes for part in pack(weight).values()) <= most * ideal_bytes(weight)


def test_it_needs_numpy_only() -> None:
    code = "import sys, st3sweep.util.packed_weights; print(sorted({'torch', 'pydantic', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
