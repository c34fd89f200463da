"""Pack weights that are mostly zero: their non-zeros, and where these are. numpy only.

The place of the non-zeros, in row-major order, is stored in whichever of two forms takes fewer bytes:

- ``mask``: one bit a weight, the first in the highest bit of the first byte, as ``numpy.packbits`` packs them;
- ``gaps``: one byte a non-zero, the number of zeros before it since the last one. A byte of 255 stands for 255 zeros
  that no non-zero follows, so that a gap of g takes g // 255 + 1 bytes.

A weight is zero where all its bits are: -0.0 and NaN are stored as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
PLACES = ("mask", "gaps")
_ESCAPE = 255


def pack(weight: Array) -> dict[str, Array]:
    """Return ``values`` (non-zeros,) in the dtype of ``weight``, and ``mask`` or ``gaps``, uint8."""
    flat = np.ascontiguousarray(weight).reshape(-1)
    present = flat.view(f"u{flat.itemsize}") != 0
    at = np.flatnonzero(present)
    zeros = np.diff(at, prepend=-1) - 1  # before each non-zero
    escapes = zeros // _ESCAPE
    if len(at) + int(escapes.sum()) >= math.ceil(flat.size / 8):
        return {"values": flat[at], "mask": np.packbits(present)}
    gaps = np.full(len(at) + int(escapes.sum()), _ESCAPE, np.uint8)
    gaps[np.cumsum(escapes + 1) - 1] = zeros % _ESCAPE
    return {"values": flat[at], "gaps": gaps}


def unpack(packed: dict[str, Array], shape: Sequence[int]) -> Array:
    """Return the weight of ``shape`` that ``pack`` packed. Raises ValueError where the parts do not fit together."""
    values = packed["values"]
    flat = np.zeros(math.prod(shape), values.dtype)
    if "mask" in packed:
        bits = np.unpackbits(packed["mask"])
        at = np.flatnonzero(bits)
        fits = len(packed["mask"]) == math.ceil(flat.size / 8)
    else:
        gaps = packed["gaps"]
        ends = gaps != _ESCAPE
        at = (np.cumsum(gaps + ends, dtype=np.int64) - 1)[ends]
        fits = not len(gaps) or bool(ends[-1])
    if not fits or values.ndim != 1 or len(at) != len(values) or (len(at) and at[-1] >= flat.size):
        raise ValueError(f"{len(values)} values, {len(at)} places: not a packed weight of shape {tuple(shape)}")
    flat[at] = values
    return flat.reshape(shape)


def ideal_bytes(weight: Array) -> float:
    """Return the bytes of the non-zeros as they are, and of their places at the entropy of a random mask: n H(p) / 8.

    p is the fraction of non-zeros of this weight: what an ideal coder needs that knows p and no pattern.
    """
    flat = np.ascontiguousarray(weight).reshape(-1)
    count = int(np.count_nonzero(flat.view(f"u{flat.itemsize}")))
    p = count / max(flat.size, 1)
    bits = 0.0 if p in (0.0, 1.0) else -p * math.log2(p) - (1 - p) * math.log2(1 - p)
    return flat.size * bits / 8 + count * flat.itemsize
