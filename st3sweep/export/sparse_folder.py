"""Write a folder that runs a model on a CPU and skips its zeros: operations, weights, the C engine and its loader."""

from __future__ import annotations

import ast
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, fx, nn

from st3sweep import sparse_runtime
from st3sweep.export.engines import Engine, Metadata, logits_difference
from st3sweep.export.model_file import ModelFileError
from st3sweep.export.preprocessing import in_words
from st3sweep.export.sparse_ops import Arrays, Op, sparse_ops
from st3sweep.sparse_runtime.compiled import ALWAYS, SOURCES, CompilerError
from st3sweep.sparse_runtime.model_folder import FORMAT, VERSION, SparseModelError
from st3sweep.sparse_runtime.sparse_model import SparseModel
from st3sweep.util.errors import UserError

RUNTIME = Path(sparse_runtime.__file__).parent
MODULES = (
    "model_folder.py",
    "grid.py",
    "ops.py",
    "convolution.py",
    "plan.py",
    "compiled.py",
    "tuning.py",
    "onnx_model.py",
    "dense_engine.py",
    "sparse_model.py",
)  # in order of their imports

_README = """\
# {title}

```python
import numpy as np
from load import SparseModel

model = SparseModel(".")  # this folder; compiles engine.c once a machine
logits = model(np.zeros((1, {channels}, {size}, {size}), np.float32))  # (B, {classes})
```

`load.py` needs numpy and a C compiler (cc, gcc or clang), which it runs itself. For a machine without one, compile
for it elsewhere, and set `ST3SWEEP_SPARSE_ENGINE` to the path of the result:

```sh
cc {flags} -march=native engine.c -o engine.so
```

Input: {input}.
Files: `ops.json` the operations, and all about the model under `about`; `weights.bin` the weights.
"""


def save_sparse(
    path: Path, graph: fx.GraphModule, reference: nn.Module, metadata: Metadata, images: Tensor | None = None
) -> tuple[Engine, float]:
    """Write ``graph`` to the folder ``path``; return it in the engine, and its largest difference from ``reference``.

    They are compared on random images and on ``images``, normalised, if given.

    Raises ModelFileError if their logits differ by more than TOLERANCE of the largest, or the folder cannot be written;
    UserError where the engine lacks an operation, or there is no C compiler.
    """
    size = metadata["image_size"]
    ops, arrays = sparse_ops(graph, (metadata["channels"], size, size))
    if path.exists() and not (path / "ops.json").is_file():
        raise UserError(f"{path}: exists and is no exported folder; choose another --out")
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".sparse-") as holder:
            made = Path(holder) / path.name
            made.mkdir()
            write_folder(made, ops, arrays, metadata)
            differences = []
            for tune in (False, True):  # the kernels of the rule, and those measured
                model = SparseModel(made, tune=tune, engine="sparse")
                engine = Engine(model)
                differences.append(logits_difference(path, engine, reference, metadata, images))
            if path.exists():
                os.replace(path, Path(holder) / "before")
            os.replace(made, path)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be written ({error.strerror})") from None
    except (SparseModelError, CompilerError) as error:
        raise UserError(f"--format sparse: {error}") from None
    return engine, max(differences)


def write_folder(folder: Path, ops: list[Op], arrays: Arrays, metadata: Metadata) -> None:
    """Write the files of a model into ``folder``."""
    tensors, content = packed(arrays)
    size = metadata["image_size"]
    shape = [metadata["channels"], size, size]
    classes = next(len(arrays[op["bias"]]) for op in reversed(ops) if "bias" in op)
    model = {"format": FORMAT, "version": VERSION, "input": shape, "classes": classes}
    model |= {"ops": ops, "tensors": tensors, "about": metadata}
    (folder / "ops.json").write_text(json.dumps(model, ensure_ascii=False, indent=1), encoding="utf-8")
    (folder / "weights.bin").write_bytes(content)
    for name in SOURCES:
        shutil.copyfile(RUNTIME / name, folder / name)
    (folder / "load.py").write_text(loader(), encoding="utf-8")
    steps = metadata.get("preprocessing")
    text = _README.format(
        title=f"A sparse {metadata.get('model', {}).get('arch', 'model')}", channels=shape[0], size=size,
        classes=classes, flags=" ".join(ALWAYS), input=in_words(steps) if steps else "float32 images, normalised",
    )  # fmt: skip
    (folder / "README.md").write_text(text, encoding="utf-8")


def packed(arrays: Arrays) -> tuple[dict[str, Any], bytes]:
    """Return the entries of ``tensors`` in ops.json, and the bytes of weights.bin."""
    entries: dict[str, Any] = {}
    content = bytearray()

    def placed(part: bytes) -> list[int]:
        content.extend(part)
        return [len(content) - len(part), len(part)]

    for name, array in arrays.items():
        values = np.ascontiguousarray(array, "<f4").reshape(-1)
        alive = values != 0
        entry: dict[str, Any] = {"shape": list(array.shape)}
        if alive.sum() * 4 + values.size // 8 < values.nbytes:
            entry |= {"values": placed(values[alive].tobytes()), "mask": placed(np.packbits(alive).tobytes())}
        else:
            entry["values"] = placed(values.tobytes())
        entries[name] = entry
    return entries, bytes(content)


def loader() -> str:
    """Return load.py: the modules of the runtime in one file, without their imports of each other."""
    parts = ['"""Run the sparse model in this folder: SparseModel(folder)(images). Needs numpy and a C compiler."""\n']
    parts.append("from __future__ import annotations\n")
    for name in MODULES:
        source = (RUNTIME / name).read_text(encoding="utf-8")
        lines = source.splitlines()
        for node in ast.parse(source).body:
            joined = isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in ("st3sweep", "__future__")
            docstring = isinstance(node, ast.Expr) and node.lineno == 1
            for line in range(node.lineno, (node.end_lineno or 0) + 1):
                if joined:
                    lines[line - 1] = ""
                elif docstring:
                    lines[line - 1] = f"# {lines[line - 1].strip(chr(34))}".rstrip()
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)
