"""Run an exported sparse model on a CPU: numpy and a small C engine, no torch."""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path
from typing import Any

import numpy as np

from st3sweep.sparse_runtime.compiled import engine
from st3sweep.sparse_runtime.model_folder import read_folder
from st3sweep.sparse_runtime.plan import KINDS, Op, Plan

TILES = {"sparse": (3, 4, 5, 6, 7, 8, 10, 12, 14, 16), "dense": (2, 3, 4, 5)}
REPEATS = 3


class SparseModel:
    """The model in the folder ``path``, ready to run on one thread: ``model(images)`` gives logits.

    ``tune`` measures the kernels of each layer (about a second); without, a rule chooses by density. Threads may share
    a model. Raises SparseModelError (a ValueError) for a damaged folder, CompilerError where the engine cannot be
    compiled.
    """

    def __init__(self, path: str | Path, *, tune: bool = True):
        self._prepare(Plan(read_folder(Path(path))), tune)

    @classmethod
    def of_plan(cls, plan: Plan) -> SparseModel:
        """Return the model of ``plan``, which runs as it stands."""
        model = cls.__new__(cls)
        model._prepare(plan, tune=False)
        return model

    def _prepare(self, plan: Plan, tune: bool) -> None:
        self.about: dict[str, Any] = plan.model.about
        self.input_shape = plan.model.shapes[0]
        self.classes = plan.model.shapes[-1][0]
        self._engine = engine(Path(__file__).with_name("engine.c"))
        self._plan = plan  # holds the arrays that the operations point to
        self._local = threading.local()
        if tune:
            self._tune()
        self._ops = (Op * len(plan.ops))(*plan.ops)

    def __call__(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return logits (B, classes) of ``images`` (B, C, H, W), float32, normalised. Raises ValueError."""
        images = np.asarray(images)
        if images.dtype != np.float32 or images.ndim != 4 or images.shape[1:] != self.input_shape:
            expected = ", ".join(map(str, self.input_shape))
            raise ValueError(f"images must be float32 (B, {expected}), not {images.dtype} {images.shape}")
        if not np.isfinite(images).all():
            raise ValueError("images must be finite")  # a zero weight is skipped, so that no NaN would come of it
        images = np.ascontiguousarray(images)
        logits = np.empty((len(images), self.classes), np.float32)
        self._engine.engine_run(
            ctypes.addressof(self._ops), len(self._ops), self._arena(), images.ctypes.data, images[:1].size,
            logits.ctypes.data, self.classes, len(images),
        )  # fmt: skip
        return logits

    def _arena(self) -> int:
        """Return the address of this thread's arena, of zeros when new: padding is never written."""
        if not hasattr(self._local, "arena"):
            self._local.arena = np.zeros(self._plan.arena, np.float32)
        address: int = self._local.arena.ctypes.data
        return address

    def _tune(self) -> None:
        """Choose the fastest kernel and tile of each convolution by measuring."""
        arena = self._arena()
        for position, kernels in self._plan.choices.items():
            best = float("inf")
            for kernel in kernels:
                for tile in TILES[KINDS[kernel.kind]]:
                    tried = Op.from_buffer_copy(kernel)
                    tried.tile = tile
                    took = self._engine.engine_time(ctypes.addressof(tried), arena, REPEATS)
                    if took < best:
                        best, self._plan.ops[position] = took, tried
