"""Define one operation of the C engine."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

KINDS = (
    "input", "sparse", "packed", "depthwise", "dense", "split", "maxpool", "avgpool", "mean", "pointwise", "flatten",
    "dense_linear", "sparse_linear", "output",
)  # fmt: skip

_NUMBERS = (
    "kind", "act", "tile", "items", "chunks", "channels_in", "channels", "height", "width", "pitch", "in_", "in_plane",
    "in_height", "in_width", "in_pitch", "out", "out_plane", "other", "kernel_h", "kernel_w", "stride_h", "stride_w",
    "pad_h", "pad_w", "terms", "blocks", "block", "row", "low", "reach", "phases", "split_plane", "split_front",
    "alone", "banded",
)  # fmt: skip
_ARRAYS = ("nonzeros", "start", "phase", "weight", "offset", "bias", "mask")

Array = np.ndarray[Any, Any]


class Op(ctypes.Structure):
    """The struct ``op`` of kernels.h. ``keep`` holds the arrays that it points to: ctypes holds addresses only.

    ``macs`` is the multiply-accumulates of a convolution, counted with the padding between rows.
    """

    _fields_ = [(name, ctypes.c_int64) for name in _NUMBERS] + [(name, ctypes.c_void_p) for name in _ARRAYS]
    keep: tuple[Array, ...] = ()
    macs: int = 0

    def having(self, **values: Any) -> Op:
        """Return a copy with other ``values``: numbers, or arrays to point to."""
        op = Op.from_buffer_copy(self)
        op.keep, op.macs = self.keep, self.macs
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                op.keep = (*op.keep, value)
                value = value.ctypes.data
            setattr(op, name, value)
        return op


def nonzeros_of(rows: Array, offset: Array) -> tuple[Array, Array]:
    """Return the non-zeros of ``rows`` (outputs, terms) with their ``offset``, and where those of a row start."""
    alive = rows != 0
    start = np.zeros(len(rows) + 1, np.int32)
    start[1:] = np.cumsum(alive.sum(1))
    nonzeros = np.zeros(max(int(start[-1]), 1), [("offset", np.int32), ("weight", np.float32)])
    nonzeros["offset"][: start[-1]] = np.broadcast_to(offset, rows.shape)[alive]
    nonzeros["weight"][: start[-1]] = rows[alive]
    return nonzeros, start
