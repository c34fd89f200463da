"""Make the kernels that can compute a convolution: which there are, and the operation for a chosen one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from st3sweep.sparse_runtime.grid import ROUND, rounded
from st3sweep.sparse_runtime.ops import KINDS, Array, Op, nonzeros_of

DENSE_ABOVE = 0.35  # density from which the dense kernel is the faster, where nothing is measured
SPARSE_BELOW = 0.12  # density below which it need not be tried
FIRST_CACHE = 24 * 1024  # bytes of input that PACKED keeps there, of 32 KB or more
TILES = {"sparse": (4, 8, 12, 14), "packed": (6, 8, 12, 13), "depthwise": (8, 12, 14), "dense": (2, 3, 4, 5)}
MOST_LANES = 16
PARTS = 3  # of an operation, for each thread: one that is late leaves less to wait for
TILED, BAND = 12, 64  # least vectors of a plane for each thread, of a convolution and of others, to share it by pixels
BANDED = ("input", "depthwise", "maxpool", "avgpool", "pointwise")  # the others that can be shared by pixels
SMALL = 2**14  # numbers that are not worth sharing
FEW_MACS = 2**19  # nor is a convolution of so few multiply-accumulates: about 25 µs
RULE = {"sparse": 12, "packed": 12, "depthwise": 12, "dense": 3}


class Choice(NamedTuple):
    """A kernel: its kind, the vectors of a tile, and the planes that ``packed`` copies at a time."""

    kind: str
    tile: int
    block: int = 0


@dataclass(frozen=True)
class Convolution:
    """A convolution whose input and output are laid out; ``op`` has all but what depends on the kernel.

    ``rows`` (outputs, terms) are the weights; the term of column i reads plane ``plane[i]`` of its group's input,
    shifted by ``shift[i]`` floats. A group has ``group_planes`` planes, which lie op.in_plane floats apart. Of a
    depthwise convolution with a stride, the planes are phases in scratch, op.split_plane apart.
    """

    op: Op
    rows: Array
    bias: Array
    plane: Array
    shift: Array
    groups: int
    group_planes: int
    depthwise: bool

    @property
    def density(self) -> float:
        return float(np.count_nonzero(self.rows) / self.rows.size)

    def choices(self, lanes: int) -> list[Choice]:
        """Return the kernels to try on a machine with vectors of ``lanes`` floats."""
        if self.depthwise:
            return [Choice("depthwise", tile) for tile in TILES["depthwise"]]
        found = [Choice("sparse", tile) for tile in TILES["sparse"]]
        if self.groups == 1:
            found += [
                Choice("packed", tile, self._block(tile, lanes, bytes_))
                for tile in TILES["packed"]
                for bytes_ in (FIRST_CACHE // 2, FIRST_CACHE)
            ]
            if self.density > SPARSE_BELOW:
                found += [Choice("dense", tile) for tile in TILES["dense"]]
        return list(dict.fromkeys(found))

    def by_rule(self, lanes: int) -> Choice:
        """Return the kernel to take where nothing is measured."""
        if self.depthwise:
            kind = "depthwise"
        elif self.groups == 1 and self.density > DENSE_ABOVE:
            kind = "dense"
        else:  # a plane that is copied must be read a few times
            tile = RULE["packed"] * lanes
            read = np.count_nonzero(self.rows) / max(1, self.group_planes) * tile
            kind = "packed" if self.groups == 1 and read > 4 * (tile + self._reach[1]) else "sparse"
        tile = RULE[kind]
        return Choice(kind, tile, self._block(tile, lanes, FIRST_CACHE) if kind == "packed" else 0)

    @property
    def scratch(self) -> int:
        """The floats of scratch that any of the kernels needs, on any machine."""
        if self.depthwise:
            return rounded(self.op.phases * self.op.split_plane)
        row = self._row(max(TILES["packed"]), MOST_LANES)
        return rounded(max(FIRST_CACHE // 4, row)) + ROUND if self.groups == 1 else 0

    def built(self, choice: Choice, lanes: int) -> Op:
        """Return the operation that computes the convolution by ``choice``, in one part a tile."""
        op = self.op.having(kind=KINDS.index(choice.kind), tile=choice.tile, chunks=1, bias=self.bias)
        vectors = -(-op.height * op.pitch // lanes)
        op.items = -(-vectors // choice.tile)
        op.macs = op.height * op.pitch * (self.rows.size if choice.kind == "dense" else np.count_nonzero(self.rows))
        apart = op.split_plane if op.phases else op.in_plane
        if choice.kind == "depthwise":
            nonzeros, start = nonzeros_of(self.rows, (self.plane * apart + self.shift)[None])
            return op.having(nonzeros=nonzeros, start=start, items=1)
        if choice.kind == "packed":
            return self._packed(op, choice, lanes)
        offset = self.plane * apart + self.shift
        if choice.kind == "dense":
            return self._dense(op, offset)
        outputs = len(self.rows)
        group = np.arange(outputs) // (outputs // self.groups) * (self.group_planes * apart)
        nonzeros, start = nonzeros_of(self.rows, offset[None] + group[:, None])
        return op.having(nonzeros=nonzeros, start=start)

    @property
    def _reach(self) -> tuple[int, int]:
        """The least shift, and how far the largest is from it."""
        return int(self.shift.min()), int(np.ptp(self.shift))

    def _row(self, tile: int, lanes: int) -> int:
        return -(-(tile * lanes + self._reach[1]) // lanes) * lanes

    def _block(self, tile: int, lanes: int, bytes_: int) -> int:
        """Return the planes that fit into ``bytes_``, evened out over the blocks."""
        fit = max(1, bytes_ // 4 // self._row(tile, lanes))
        blocks = -(-self.group_planes // fit)
        return -(-self.group_planes // blocks)

    def _packed(self, op: Op, choice: Choice, lanes: int) -> Op:
        row, (low, reach) = self._row(choice.tile, lanes), self._reach
        outputs, block = len(self.rows), max(1, choice.block)
        blocks = -(-self.group_planes // block)
        at, term = np.nonzero(self.rows)
        number = self.plane[term] // block
        narrow = np.int16 if blocks < 2**15 else np.int64  # few bits sort faster
        order = np.argsort(number.astype(narrow), kind="stable")
        at, term, number = at[order], term[order], number[order]
        nonzeros = np.zeros(max(len(at), 1), [("offset", np.int32), ("weight", np.float32)])
        nonzeros["offset"][: len(at)] = self.plane[term] % block * row + self.shift[term] - low
        nonzeros["weight"][: len(at)] = self.rows[at, term]
        edges = np.arange(blocks * (outputs + 1)).reshape(blocks, outputs + 1) - np.arange(blocks)[:, None]
        start = np.searchsorted(number * outputs + at, edges.reshape(-1)).astype(np.int32)
        return op.having(
            nonzeros=nonzeros, start=start, blocks=blocks, block=block, row=row, low=low, reach=reach,
            channels_in=self.group_planes,
        )  # fmt: skip

    def _dense(self, op: Op, offset: Array) -> Op:
        outputs, terms = self.rows.shape
        padded = np.zeros((-(-outputs // 4) * 4, terms), np.float32)
        padded[:outputs] = self.rows
        weight = np.ascontiguousarray(padded.reshape(-1, 4, terms).transpose(0, 2, 1))
        bias = np.zeros(len(padded), np.float32)
        bias[:outputs] = self.bias
        return op.having(weight=weight, offset=offset.astype(np.int32), terms=terms, bias=bias)


def shared(op: Op, threads: int, lanes: int) -> Op:
    """Return ``op`` in as many parts as ``threads`` need, one where it is small.

    A part is some of the pixels of all channels where planes are large: a thread then reads what is in its own cache,
    because it wrote the same pixels in the layer before. On small planes the processor fetches ahead what the other
    threads write, and a part is some of the channels.
    """
    kind = KINDS[op.kind]
    vectors = -(-op.height * op.pitch // lanes)
    if kind in ("sparse", "packed", "dense"):
        if op.macs < FEW_MACS:
            return op.having(alone=1)
        tiles = op.items // op.chunks
        if vectors >= TILED * threads > TILED:  # as many tiles for each thread
            op = op.having(tile=-(-vectors // (-(-tiles // threads) * threads)))
            tiles = -(-vectors // op.tile)
        wanted = -(-PARTS * threads // tiles) if threads > 1 else 1
        chunks = max(1, min(wanted, op.channels // 16))
        return op.having(chunks=chunks, items=tiles * chunks)
    if kind in ("flatten", "output"):
        return op
    numbers = max(op.channels, 1) * op.height * op.pitch if not kind.endswith("linear") else op.width * 64
    if threads == 1 or numbers <= SMALL:
        return op
    if kind in BANDED and vectors >= BAND * threads and not (kind == "depthwise" and op.phases):
        return op.having(items=PARTS * threads, banded=1)
    count = op.channels_in if kind == "split" else op.width if kind.endswith("linear") else op.channels
    return op.having(items=max(1, min(PARTS * threads, count)))
