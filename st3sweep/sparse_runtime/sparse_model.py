"""Run an exported sparse model on a CPU: numpy and a small C engine, no torch."""

from __future__ import annotations

import ctypes
import json
import os
import warnings
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from st3sweep.sparse_runtime.compiled import cache_folder, engine
from st3sweep.sparse_runtime.convolution import shared
from st3sweep.sparse_runtime.dense_engine import (
    WORTH_MEASURING,
    Run,
    live_macs,
    onnx_session,
    remark,
    times,
    version,
)  # fmt: skip
from st3sweep.sparse_runtime.grid import ROUND
from st3sweep.sparse_runtime.model_folder import Model, digest, read_folder
from st3sweep.sparse_runtime.ops import Op
from st3sweep.sparse_runtime.plan import Plan
from st3sweep.sparse_runtime.tuning import Choices, chosen_ops, fastest, stored_choices, written


class SparseModel:
    """The model in the folder ``path``, ready to run: ``model(images)`` gives logits.

    ``threads`` (at most the cores that this process may use) run it together: images of a batch a thread each, and the
    parts of a layer. ``tune`` measures the kernels of each layer, seconds the first time on a machine; without, a rule
    chooses by density. Threads of yours may share a model: one at a time has the help of its threads.

    Where so many weights are live that a dense engine may be faster, both are measured (with ``tune``), and ONNX
    Runtime runs if it is installed and faster; ``model.engine`` says which ("sparse" or "onnxruntime"), a warning how
    much slower the other is. engine="sparse" keeps this one.

    Raises SparseModelError (a ValueError) for a damaged folder, CompilerError where the engine cannot be compiled.
    """

    def __init__(self, path: str | Path, *, threads: int = 1, tune: bool = True, engine: str = "auto"):
        path = Path(path)
        if engine not in ("auto", "sparse"):
            raise ValueError(f"engine must be auto or sparse, not {engine!r}")
        model = read_folder(path)
        name = digest(path)[:24] if tune else ""
        self._prepare(Plan(model), threads, name or {})
        if tune and engine == "auto":
            self._compare(model, name)

    @classmethod
    def of_plan(cls, plan: Plan, choices: Choices | None = None, threads: int = 1) -> SparseModel:
        """Return the model of ``plan``, its kernels those of ``choices`` and, where there is none, of the rule."""
        model = cls.__new__(cls)
        model._prepare(plan, threads, choices or {})
        return model

    def _prepare(self, plan: Plan, threads: int, choices: Choices | str) -> None:
        if threads < 1:
            raise ValueError(f"threads must be at least 1, not {threads}")
        self.about: dict[str, Any] = plan.model.about
        self.input_shape = plan.model.shapes[0]
        self.classes = plan.model.shapes[-1][0]
        self.threads = min(threads, _cores())
        self.engine = "sparse"
        self._dense: Run | None = None
        self._engine = engine(Path(__file__).parent)
        self._plan = plan
        self._size = plan.arena + plan.scratch + ROUND
        self._free = [self._new_arenas()]
        self._process = os.getpid()
        self._crew = self._engine.engine_crew(self.threads - 1) if self.threads > 1 else None
        if self._crew:
            weakref.finalize(self, _stop, self._engine, self._crew, self._process)
        if isinstance(choices, str):
            choices = self._tuned(choices)
        made = chosen_ops(self._engine, plan.convolutions, choices)
        lanes = self._engine.engine_lanes()
        self._kept = [shared(made.get(position, op), self.threads, lanes) for position, op in enumerate(plan.ops)]
        self._ops = (Op * len(plan.ops))(*self._kept)  # copies; _kept holds what they point to
        plan.convolutions.clear()

    def __call__(self, images: np.ndarray[Any, Any], out: np.ndarray[Any, Any] | None = None) -> np.ndarray[Any, Any]:
        """Return logits (B, classes) of ``images`` (B, C, H, W), float32, normalised; in ``out`` if given.

        Raises ValueError.
        """
        images = np.asarray(images)
        if images.dtype != np.float32 or images.ndim != 4 or images.shape[1:] != self.input_shape:
            expected = ", ".join(map(str, self.input_shape))
            raise ValueError(f"images must be float32 (B, {expected}), not {images.dtype} {images.shape}")
        images = np.ascontiguousarray(images)
        shape = (len(images), self.classes)
        if out is None:
            out = np.empty(shape, np.float32)
        elif out.dtype != np.float32 or out.shape != shape or not (out.flags.c_contiguous and out.flags.writeable):
            raise ValueError(f"out must be float32 {shape}, contiguous and writeable, not {out.dtype} {out.shape}")
        if not self._engine.engine_finite(images.ctypes.data, images.size):
            raise ValueError("images must be finite")  # a zero weight is skipped, so that no NaN would come of it
        if self._dense is not None:
            out[...] = self._dense(images) if len(images) else 0
            return out
        try:
            arenas = self._free.pop()  # of no other call
        except IndexError:
            arenas = self._new_arenas()
        crew = self._crew if os.getpid() == self._process else None  # a fork has no helpers
        self._engine.engine_run(
            crew, ctypes.addressof(self._ops), len(self._ops), arenas.addresses.ctypes.data, self._plan.arena,
            images.ctypes.data, images[:1].size, out.ctypes.data, self.classes, len(images),
        )  # fmt: skip
        self._free.append(arenas)
        return out

    def _new_arenas(self) -> _Arenas:
        return _Arenas(self.threads, self._size)

    def _compare(self, model: Model, name: str) -> None:
        """Run the dense engine from now on if it is the faster."""
        live = live_macs(model)
        if live < WORTH_MEASURING:
            return
        dense = onnx_session(model, self.threads)
        path = cache_folder() / f"times-{name}-{self.threads}-{version()}-{Path(self._engine._name).stem}.json"
        ours, theirs = times(path, self, dense, self.input_shape)
        if dense is not None and theirs < ours:
            self._dense, self.engine = dense, "onnxruntime"
        if said := remark(live, ours, theirs, bool(version())):
            warnings.warn(said, stacklevel=3)

    def _tuned(self, name: str) -> Choices:
        path = cache_folder() / f"kernels-{name}-{self.threads}-{Path(self._engine._name).stem}.json"
        choices = stored_choices(path, self._plan.convolutions, self._engine.engine_lanes())
        if choices is None:
            arenas = self._free[0].addresses.ctypes.data
            plan = self._plan
            choices = fastest(self._engine, plan.convolutions, arenas, plan.arena, self.threads, self._crew)
            written(path, json.dumps(choices))
        return choices


class _Arenas:
    """What the threads of a call write to, of zeros when new: padding is never written. Freed with this object."""

    def __init__(self, threads: int, size: int):
        self._arrays = [np.zeros(size + ROUND, np.float32) for _ in range(threads)]
        line = 64  # bytes: vectors then cross no more lines of the cache than they must
        self.addresses = np.array([-(-one.ctypes.data // line) * line for one in self._arrays], np.int64)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _stop(engine: ctypes.CDLL, crew: int, process: int) -> None:
    if os.getpid() == process:
        engine.engine_crew_stop(crew)
