"""Test the sparse engine on ARM: compiled for it with its data, and run by qemu. Its speed is not measured."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from st3sweep.export.folding import fold_batch_norms, traced
from st3sweep.export.sparse_folder import RUNTIME, packed
from st3sweep.export.sparse_ops import sparse_ops
from st3sweep.networks.mobilenet_v1 import MobileNetV1
from st3sweep.networks.resnet50 import ResNet50
from st3sweep.sparse_runtime import convolution
from st3sweep.sparse_runtime.compiled import ALWAYS
from st3sweep.sparse_runtime.convolution import shared
from st3sweep.sparse_runtime.grid import ROUND
from st3sweep.sparse_runtime.model_folder import FORMAT, checked
from st3sweep.sparse_runtime.ops import Op
from st3sweep.sparse_runtime.plan import Plan
from tests.unit.test_sparse_runtime import randomised

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
LANES = 4  # floats of a NEON vector
THREADS = 2
SIZE = 33
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which(COMPILER) and shutil.which(EMULATOR)),
        reason=f"needs {COMPILER} and {EMULATOR} (Debian: gcc-aarch64-linux-gnu, libc6-dev-arm64-cross, qemu-user)",
    ),
]

MAIN = """
#include "engine.c"
#include <stdio.h>
#include "data.h"
int main(void) {
  static _Alignas(64) float arenas[THREADS][ARENA + SCRATCH + 32], logits[BATCH * CLASSES];
  float *const each[THREADS] = {arenas[0], arenas[1]};
  crew *c = engine_crew(THREADS - 1);
  if (engine_lanes() != LANES_EXPECTED || !c) return 1;
  engine_run(c, ops, OPS, each, ARENA, (const float *)image_words, IMAGE, logits, CLASSES, BATCH);
  engine_crew_stop(c);
  for (int i = 0; i < BATCH * CLASSES; i++) printf("%.9g\\n", logits[i]);
}
"""


def in_c(kind: str, name: str, words: Iterable[Any]) -> str:
    return f"static _Alignas(64) const {kind} {name}[] = {{{','.join(map(str, words))}}};\n"


def as_c(ops: list[Op], plan: Plan, images: np.ndarray[Any, Any], classes: int) -> str:
    """Return a header with the operations and all that they point to, as words of 32 bits."""
    text, rows = "", []
    names: dict[int, str] = {}
    for op in ops:
        for array in op.keep:
            if array.ctypes.data not in names:
                names[array.ctypes.data] = name = f"a{len(names)}"
                text += in_c("uint32_t", name, np.ascontiguousarray(array).view(np.uint32).reshape(-1))
        fields = [(name, getattr(op, name)) for name, *_ in Op._fields_]
        words = [f"(const void *){names[value]}" if value in names else str(value or 0) for _, value in fields]
        rows.append(f"{{{','.join(words)}}}")
    text += f"static const op ops[] = {{{','.join(rows)}}};\n"
    text += in_c("uint32_t", "image_words", images.view(np.uint32).reshape(-1))
    numbers = {
        "THREADS": THREADS, "ARENA": plan.arena, "SCRATCH": plan.scratch + ROUND, "BATCH": len(images),
        "CLASSES": classes, "IMAGE": images[0].size, "OPS": len(ops), "LANES_EXPECTED": LANES,
    }  # fmt: skip
    return text + "".join(f"#define {name} {value}\n" for name, value in numbers.items())


@pytest.mark.parametrize(
    ("build", "sparsity", "expected_kinds"),
    [
        (lambda: MobileNetV1(10, 3, 0.25), 0.7, {"sparse", "packed", "dense", "depthwise"}),
        (lambda: ResNet50(10, 3), 0.98, {"sparse", "packed"}),
    ],
)
def test_logits_are_those_of_torch(
    build: Any, sparsity: float, expected_kinds: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = randomised(build(), sparsity)
    ops, arrays = sparse_ops(fold_batch_norms(traced(model)), (3, SIZE, SIZE))
    tensors, content = packed(arrays)
    text = {"format": FORMAT, "version": 1, "input": [3, SIZE, SIZE], "classes": 10, "ops": ops, "tensors": tensors}
    plan = Plan(checked(json.dumps({**text, "about": {}}), content))
    kinds = set()
    for number, (position, one) in enumerate(plan.convolutions.items()):
        choices = one.choices(LANES)
        choice = choices[5 * number % len(choices)]
        kinds.add(choice.kind)
        plan.ops[position] = one.built(choice, LANES)
    assert kinds == expected_kinds
    for name in ("FEW_MACS", "SMALL", "TILED", "BAND"):  # everything is shared, by pixels where that is possible
        monkeypatch.setattr(convolution, name, 1)
    made = [shared(op, THREADS, LANES) for op in plan.ops]
    images = np.random.default_rng(0).normal(size=(3, 3, SIZE, SIZE)).astype(np.float32)
    (tmp_path / "data.h").write_text(as_c(made, plan, images, 10))
    (tmp_path / "main.c").write_text(MAIN)
    flags = [flag for flag in ALWAYS if flag not in ("-shared", "-fPIC")]
    command = [COMPILER, *flags, "-O1", "-static", f"-I{RUNTIME}", "main.c", "-o", "arm"]
    subprocess.run(command, cwd=tmp_path, check=True)
    done = subprocess.run([EMULATOR, str(tmp_path / "arm")], capture_output=True, text=True, check=True)
    found = np.array(done.stdout.split(), np.float32).reshape(3, 10)
    with torch.no_grad():
        expected = model(torch.from_numpy(images)).numpy()
    assert np.abs(expected).max() > 0.1
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
