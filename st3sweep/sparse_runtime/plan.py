"""Lay out a checked model for ``engine.c``: where each value lies in the arena, and what each operation reads.

All values of a height and width lie on one grid, so that a residual is added in place of its convolution's pixels.
"""

from __future__ import annotations

import ctypes
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from st3sweep.sparse_runtime.grid import ROUND, Grid, Place, flat, rounded, unlaid
from st3sweep.sparse_runtime.model_folder import ACTIVATIONS, LARGEST, Model, SparseModelError

KINDS = (
    "input", "sparse", "dense", "split", "maxpool", "avgpool", "mean", "pointwise", "flatten", "dense_linear",
    "sparse_linear", "output",
)  # fmt: skip
DENSE_ABOVE = 0.35  # density from which the dense kernel is the faster, where nothing is measured
SPARSE_BELOW = 0.12  # density below which it need not be tried

_NUMBERS = (
    "kind", "act", "tile", "channels_in", "channels", "height", "width", "pitch", "in_", "in_plane", "in_height",
    "in_width", "in_pitch", "out", "out_plane", "other", "kernel_h", "kernel_w", "stride_h", "stride_w", "pad_h",
    "pad_w", "phase_h", "phase_w", "terms",
)  # fmt: skip
_ARRAYS = ("nonzeros", "start", "weight", "offset", "bias", "mask")

Array = np.ndarray[Any, Any]


class Op(ctypes.Structure):
    """The struct ``op`` of engine.c."""

    _fields_ = [(name, ctypes.c_int64) for name in _NUMBERS] + [(name, ctypes.c_void_p) for name in _ARRAYS]


@dataclass(frozen=True)
class Taps:
    """Where the weights (ky, kx) of a convolution read: phases of the input's rows and columns, and shifts there."""

    phases: list[tuple[int, int]]
    phase: Array  # (kernel_h * kernel_w,) index of its phase
    shift_y: Array
    shift_x: Array
    direct: bool  # reads the input as it lies


def _taps(op: dict[str, Any], weight: Array, read: tuple[int, ...], made: tuple[int, ...]) -> Taps:
    sides = [
        np.divmod(np.arange(kernel) * far - pad, step)
        for kernel, far, pad, step in zip(weight.shape[2:], op["dilation"], op["padding"], op["stride"], strict=True)
    ]
    (shift_y, phase_y), (shift_x, phase_x) = sides
    pairs = [(int(a), int(b)) for a in phase_y for b in phase_x]
    phases = sorted(set(pairs))
    phase = np.array([phases.index(pair) for pair in pairs])
    shifts = np.repeat(shift_y, len(shift_x)), np.tile(shift_x, len(shift_y))
    return Taps(phases, phase, *shifts, op["stride"] == [1, 1] and read[1:] == made[1:])


class Plan:
    """The operations for the C engine (``ops``) and the size of its arena (floats), from a checked ``model``.

    ``choices`` has, for the position of each convolution, the kernels that can compute it.
    """

    def __init__(self, model: Model):
        self.model = model
        self.arena = ROUND
        self.ops: list[Op] = []
        self.choices: dict[int, list[Op]] = {}
        self._keep: list[Array] = []  # ctypes holds addresses only
        self._free: dict[Any, list[Place]] = defaultdict(list)
        self._grids: dict[Any, Grid] = {}
        taps = self._lay_grids()
        self._place_all(taps)

    def _lay_grids(self) -> dict[int, Taps]:
        """Find the padding that each grid needs, and the taps of each convolution by position."""
        found = {}
        shapes = self.model.shapes
        for shape in shapes:
            self._grids.setdefault(shape[1:] if len(shape) == 3 else shape, unlaid(shape))
        for position, op in enumerate(self.model.ops):
            if op["op"] != "conv":
                continue
            read, made = shapes[op["inputs"][0]], shapes[position + 1]
            found[position] = taps = _taps(op, self.model.tensors[op["weight"]], read, made)
            left, right = max(0, -int(taps.shift_x.min())), max(0, int(taps.shift_x.max()))
            grid = self._grids[made[1:]]
            if taps.direct:
                grid.up = max(grid.up, -int(taps.shift_y.min()))
                grid.down = max(grid.down, int(taps.shift_y.max()))
                grid.side = max(grid.side, left, right)
            else:  # a phase may be wider than what is made of it; its own zeros come after it
                wide = min(-(-read[2] // op["stride"][1]), made[2] + right)
                grid.pitch = max(grid.pitch, wide + left, made[2] + right)
        for grid in self._grids.values():
            grid.lay()
        return found

    def _place_all(self, taps: dict[int, Taps]) -> None:
        ops = self.model.ops
        last = {0: 0} | {one: position for position, op in enumerate(ops) for one in op["inputs"]}
        places = [self._value(self.model.shapes[0])]
        self._add("input", None, places[0])
        for position, op in enumerate(ops):
            sources = [places[one] for one in op["inputs"]]
            made = self._value(self.model.shapes[position + 1])
            places.append(made)
            kind = op["op"]
            if kind == "conv":
                self._conv(op, sources, made, taps[position])
            elif kind == "linear":
                self._linear(op, sources[0], made)
            elif kind in ("maxpool", "avgpool"):
                self._pool(op, sources[0], made)
            elif kind == "concat":
                self._concat(op, sources, made)
            else:
                other = sources[1].origin if len(sources) == 2 else -1
                read = self.model.shapes[op["inputs"][0]]
                self._add(kind, sources[0], made, act=op.get("act", "none"), other=other, channels_in=read[0])
            for one in {*op["inputs"], position + 1}:
                if last.get(one, position) <= position:
                    self._release(places[one])
        self._add("output", places[-1], None)

    def _value(self, shape: tuple[int, ...]) -> Place:
        flat = len(shape) == 1
        return self._place(self._grids[shape if flat else shape[1:]], 1 if flat else shape[0])

    def _place(self, grid: Grid, planes: int) -> Place:
        """Return free planes of ``grid``: those used before have their zeros where this grid wants them."""
        fitting = [place for place in self._free[grid] if place.capacity >= planes]
        if fitting:
            best = min(fitting, key=lambda place: place.capacity)
            self._free[grid].remove(best)
            return replace(best, planes=planes)
        start = self.arena
        self.arena += planes * grid.plane + ROUND
        if self.arena > LARGEST:
            raise SparseModelError(f"ops.json: needs more than {LARGEST} numbers of memory")
        return Place(start, planes, grid, planes)

    def _release(self, place: Place) -> None:
        self._free[place.grid].append(place)

    def _add(self, kind: str, source: Place | None, made: Place | None, act: str = "none", **more: Any) -> Op:
        op = Op(kind=KINDS.index(kind), act=ACTIVATIONS.index(act), tile=1, other=-1)
        if source is not None:
            grid = source.grid
            op.in_, op.in_plane = source.origin, grid.plane
            op.in_height, op.in_width, op.in_pitch = grid.height, grid.width, grid.pitch
        if made is not None:
            grid = made.grid
            op.out, op.out_plane, op.channels = made.origin, grid.plane, made.planes
            op.height, op.width, op.pitch = grid.height, grid.width, grid.pitch
            op.mask = self._address(grid.mask)
        for name, value in more.items():
            setattr(op, name, self._address(value) if isinstance(value, np.ndarray) else value)
        self.ops.append(op)
        return op

    def _address(self, array: Array) -> int:
        self._keep.append(array)
        return array.ctypes.data

    def _conv(self, op: dict[str, Any], sources: list[Place], made: Place, taps: Taps) -> None:
        weight, bias = self.model.tensors[op["weight"]], self.model.tensors[op["bias"]]
        outputs, inputs, groups = weight.shape[0], weight.shape[1], op["groups"]
        source, phases, scratch = sources[0], 1, None
        if not taps.direct:
            source = scratch = self._split(op, sources[0], made, taps, inputs * groups)
            phases = len(taps.phases)
        grid = source.grid
        channel = (np.arange(inputs) * phases)[:, None] + (0 if taps.direct else taps.phase)
        offset = (channel * grid.plane + taps.shift_y * grid.pitch + taps.shift_x).reshape(-1)
        group = (np.arange(outputs) // (outputs // groups) * (inputs * phases * grid.plane))[:, None]
        rows = weight.reshape(outputs, -1)
        common = {
            "act": op["act"], "channels": outputs, "other": sources[1].origin if len(sources) == 2 else -1,
        }  # fmt: skip
        nonzeros, start = _nonzeros(rows, offset + group if groups > 1 else offset[None])
        self._add("sparse", source, made, nonzeros=nonzeros, start=start, bias=bias, tile=8, **common)
        position = len(self.ops) - 1
        self.choices[position] = [self.ops[position]]
        density = np.count_nonzero(rows) / rows.size
        if groups == 1 and density > SPARSE_BELOW:
            four = np.zeros((-(-outputs // 4) * 4, rows.shape[1]), np.float32)
            four[:outputs] = rows
            packed = np.ascontiguousarray(four.reshape(-1, 4, rows.shape[1]).transpose(0, 2, 1))
            biases = np.zeros(len(four), np.float32)
            biases[:outputs] = bias
            self._add(
                "dense", source, made, weight=packed, offset=offset.astype(np.int32), terms=rows.shape[1],
                bias=biases, tile=3, **common,
            )  # fmt: skip
            self.choices[position].append(self.ops.pop())
            if density > DENSE_ABOVE:
                self.ops[position] = self.choices[position][1]
        if scratch is not None:
            self._release(scratch)

    def _split(self, op: dict[str, Any], source: Place, made: Place, taps: Taps, channels: int) -> Place:
        """Deal the input into its phases, on the pitch of what is made."""
        step_y, step_x = op["stride"]
        grid, made_grid = source.grid, made.grid
        down = max(0, int(taps.shift_y.max()))
        right = max(0, int(taps.shift_x.max()))
        height = min(-(-grid.height // step_y), made_grid.height + down)
        width = min(-(-grid.width // step_x), made_grid.width + right)
        up, left = max(0, -int(taps.shift_y.min())), max(0, -int(taps.shift_x.min()))
        # Only a split of the same numbers may reuse the planes: the zeros around them must stay.
        key = ("split", grid.height, grid.width, made_grid.height, made_grid.width, step_y, step_x)
        key = (*key, up, down, left, right, *taps.phases)
        if key not in self._grids:
            laid = Grid(height, width, made_grid.pitch, front=rounded(up * made_grid.pitch + left))
            pixels = max(height * laid.pitch, rounded(made_grid.height * laid.pitch))
            laid.plane = laid.front + rounded(pixels + down * laid.pitch + right)
            self._grids[key] = laid
        laid = self._grids[key]
        place = self._place(laid, channels * len(taps.phases))
        for index, (a, b) in enumerate(taps.phases):
            rows, columns = min(-(-(grid.height - a) // step_y), height), min(-(-(grid.width - b) // step_x), width)
            if rows > 0 and columns > 0:
                self._add(
                    "split", source, place, channels=channels, height=rows, width=columns, stride_h=step_y,
                    stride_w=step_x, phase_h=a, phase_w=b, out=place.origin + index * laid.plane,
                    out_plane=len(taps.phases) * laid.plane,
                )  # fmt: skip
        return place

    def _linear(self, op: dict[str, Any], source: Place, made: Place) -> None:
        weight, bias = self.model.tensors[op["weight"]], self.model.tensors[op["bias"]]
        if np.count_nonzero(weight) > DENSE_ABOVE * weight.size:
            padded = np.zeros((len(weight), rounded(weight.shape[1])), np.float32)
            padded[:, : weight.shape[1]] = weight
            self._add("dense_linear", source, made, op["act"], weight=padded, terms=padded.shape[1], bias=bias)
        else:
            nonzeros, start = _nonzeros(weight, np.arange(weight.shape[1])[None])
            self._add("sparse_linear", source, made, op["act"], nonzeros=nonzeros, start=start, bias=bias)

    def _pool(self, op: dict[str, Any], source: Place, made: Place) -> None:
        (kernel_h, kernel_w), (stride_h, stride_w), (pad_h, pad_w) = op["kernel"], op["stride"], op["padding"]
        length = max((made.grid.width - 1) * stride_w + kernel_w, pad_w + source.grid.width)
        row = self._place(self._grids.setdefault(("row", length), flat(length)), 1)
        self._add(
            op["op"], source, made, other=row.origin, kernel_h=kernel_h, kernel_w=kernel_w, stride_h=stride_h,
            stride_w=stride_w, pad_h=pad_h, pad_w=pad_w, terms=int(op.get("count_padding", False)),
        )  # fmt: skip
        self._release(row)

    def _concat(self, op: dict[str, Any], sources: list[Place], made: Place) -> None:
        start = made.origin
        for one, source in zip(op["inputs"], sources, strict=True):
            channels = self.model.shapes[one][0]
            self._add("pointwise", source, made, out=start, channels=channels)
            start += channels * made.grid.plane


def _nonzeros(rows: Array, offset: Array) -> tuple[Array, Array]:
    """Return the non-zeros of ``rows`` (outputs, terms) with their ``offset``, and where those of a row start."""
    alive = rows != 0
    start = np.zeros(len(rows) + 1, np.int32)
    start[1:] = np.cumsum(alive.sum(1))
    nonzeros = np.zeros(max(int(start[-1]), 1), [("offset", np.int32), ("weight", np.float32)])
    nonzeros["offset"][: start[-1]] = np.broadcast_to(offset, rows.shape)[alive]
    nonzeros["weight"][: start[-1]] = rows[alive]
    return nonzeros, start
