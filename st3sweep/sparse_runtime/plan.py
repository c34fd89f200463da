"""Lay out a checked model for ``engine.c``: where each value lies in the arena, and what each operation reads.

All values of a height and width lie on one grid, so that a residual is added in place of its convolution's pixels.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from st3sweep.sparse_runtime.convolution import DENSE_ABOVE, Convolution
from st3sweep.sparse_runtime.grid import ROUND, Grid, Place, rounded, unlaid
from st3sweep.sparse_runtime.model_folder import ACTIVATIONS, LARGEST, Model, SparseModelError
from st3sweep.sparse_runtime.ops import KINDS, Op, nonzeros_of

Array = np.ndarray[Any, Any]


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

    ``convolutions`` has those whose kernels are still to be chosen, by position in ``ops``; each thread needs
    ``scratch`` floats besides.
    """

    def __init__(self, model: Model):
        self.model = model
        self.arena = ROUND
        self.ops: list[Op] = []
        self.convolutions: dict[int, Convolution] = {}
        self.scratch = 0
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
        if self.arena + self.scratch > LARGEST:
            raise _too_large()

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
            raise _too_large()
        return Place(start, planes, grid, planes)

    def _release(self, place: Place) -> None:
        self._free[place.grid].append(place)

    def _add(self, kind: str, source: Place | None, made: Place | None, act: str = "none", **more: Any) -> Op:
        op = Op(kind=KINDS.index(kind), act=ACTIVATIONS.index(act), tile=1, items=1, chunks=1, other=-1)
        if source is not None:
            grid = source.grid
            op.in_, op.in_plane = source.origin, grid.plane
            op.in_height, op.in_width, op.in_pitch = grid.height, grid.width, grid.pitch
        if made is not None:
            grid = made.grid
            op.out, op.out_plane, op.channels = made.origin, grid.plane, made.planes
            op.height, op.width, op.pitch = grid.height, grid.width, grid.pitch
            op = op.having(mask=grid.mask)
        op = op.having(**more)
        self.ops.append(op)
        return op

    def _conv(self, op: dict[str, Any], sources: list[Place], made: Place, taps: Taps) -> None:
        weight, bias = self.model.tensors[op["weight"]], self.model.tensors[op["bias"]]
        outputs, inputs, groups = weight.shape[0], weight.shape[1], op["groups"]
        depthwise = inputs == 1 and groups > 1
        source, phases, scratch = sources[0], len(taps.phases), None
        more: dict[str, Any] = {"other": sources[1].origin if len(sources) == 2 else -1, "channels_in": inputs * groups}
        if taps.direct:
            phases, laid = 1, source.grid
        else:
            laid, split = self._split(op, sources[0], made, taps)
            if depthwise:
                more |= split
            else:
                source = scratch = self._place(laid, inputs * groups * phases)
                split["out"] = source.origin
                self._add("split", sources[0], made, channels_in=inputs * groups, **split)
        phase = np.zeros_like(taps.phase) if taps.direct else taps.phase
        channel = (np.arange(inputs) * phases)[:, None] + phase
        shift = np.broadcast_to(taps.shift_y * laid.pitch + taps.shift_x, channel.shape)
        base = self._add("sparse", source, made, act=op["act"], **more)
        self.convolutions[len(self.ops) - 1] = Convolution(
            base, weight.reshape(outputs, -1), bias, channel.reshape(-1), shift.reshape(-1), groups,
            inputs * phases, depthwise,
        )  # fmt: skip
        self.scratch = max(self.scratch, self.convolutions[len(self.ops) - 1].scratch)
        if scratch is not None:
            self._release(scratch)

    def _split(self, op: dict[str, Any], source: Place, made: Place, taps: Taps) -> tuple[Grid, dict[str, Any]]:
        """Return the grid of the input's phases, on the pitch of what is made, and how to deal the input into them."""
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

        def dealt(have: int, first: int, step: int, most: int) -> int:
            return max(0, min(-(-(have - first) // step), most))

        rows = [
            (a, b, dealt(grid.height, a, step_y, height), dealt(grid.width, b, step_x, width)) for a, b in taps.phases
        ]
        split = {
            "phase": np.array(rows, np.int32), "phases": len(rows), "split_plane": laid.plane,
            "split_front": laid.front, "stride_h": step_y, "stride_w": step_x,
        }  # fmt: skip
        return laid, split

    def _linear(self, op: dict[str, Any], source: Place, made: Place) -> None:
        weight, bias = self.model.tensors[op["weight"]], self.model.tensors[op["bias"]]
        if np.count_nonzero(weight) > DENSE_ABOVE * weight.size:
            padded = np.zeros((len(weight), rounded(weight.shape[1])), np.float32)
            padded[:, : weight.shape[1]] = weight
            self._add("dense_linear", source, made, op["act"], weight=padded, terms=padded.shape[1], bias=bias)
        else:
            nonzeros, start = nonzeros_of(weight, np.arange(weight.shape[1])[None])
            self._add("sparse_linear", source, made, op["act"], nonzeros=nonzeros, start=start, bias=bias)

    def _pool(self, op: dict[str, Any], source: Place, made: Place) -> None:
        (kernel_h, kernel_w), (stride_h, stride_w), (pad_h, pad_w) = op["kernel"], op["stride"], op["padding"]
        length = max((made.grid.width - 1) * stride_w + kernel_w, pad_w + source.grid.width)
        self.scratch = max(self.scratch, rounded(length))
        self._add(
            op["op"], source, made, kernel_h=kernel_h, kernel_w=kernel_w, stride_h=stride_h,
            stride_w=stride_w, pad_h=pad_h, pad_w=pad_w, terms=int(op.get("count_padding", False)),
        )  # fmt: skip

    def _concat(self, op: dict[str, Any], sources: list[Place], made: Place) -> None:
        start = made.origin
        for one, source in zip(op["inputs"], sources, strict=True):
            channels = self.model.shapes[one][0]
            self._add("pointwise", source, made, out=start, channels=channels)
            start += channels * made.grid.plane


def _too_large() -> SparseModelError:
    return SparseModelError(f"ops.json: needs more than {LARGEST} numbers of memory")
