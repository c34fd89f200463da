"""Write a model for ONNX Runtime or OpenVINO: batch norms folded, batches of any size, zeros in place.

Each file is run in its engine before it gets its name, and its logits compared with torch's. The JSON of
``model_file.py`` is in its metadata, under ``st3sweep``.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from st3sweep.export.model_file import ModelFileError, metadata_text
from st3sweep.networks.weight_file import KEY
from st3sweep.util.extras import optional
from st3sweep.util.storage.atomic import atomic_write

TOLERANCE = 1e-4  # of the largest logit: engines sum in another order than torch
_BATCHES = (1, 3)

Metadata = dict[str, Any]


class Engine(nn.Module):
    """A written model, run in its engine: float32 images on the CPU to logits."""

    def __init__(self, run: Callable[[Any], Any]):
        super().__init__()
        self.run = run

    def forward(self, images: Tensor) -> Tensor:
        return torch.from_numpy(np.array(self.run(images.contiguous().numpy())))


def save_onnx(
    path: Path, graph: nn.Module, reference: nn.Module, metadata: Metadata, images: Tensor | None = None
) -> tuple[Engine, float]:
    """Write ``graph`` to ``path``; return it in its engine, and its largest difference from ``reference``'s logits.

    It takes ``images`` (batch, C, H, W) and gives ``logits`` (batch, classes). They are compared on random images and
    on ``images``, normalised, if given. Raises ModelFileError if they differ by
    more than TOLERANCE of the largest logit, or the file cannot be written; UserError without the packages.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        optional(package, "onnx", "--format onnx")
    runtime = optional("onnxruntime", "onnx", "--format onnx")
    with _quiet():
        program = torch.onnx.export(
            graph, (_images(metadata, 2),), dynamo=True, verbose=False, input_names=["images"],
            output_names=["logits"], dynamic_shapes=({0: torch.export.Dim("batch")},),
        )  # fmt: skip
    assert program is not None
    program.model.metadata_props[KEY] = metadata_text(metadata)
    content = program.model_proto.SerializeToString()
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    engine = Engine(lambda x: session.run(None, {"images": x})[0])
    difference = logits_difference(path, engine, reference, metadata, images)
    try:
        with atomic_write(path) as file:
            file.write(content)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be written ({error.strerror})") from None
    return engine, difference


def save_openvino(
    path: Path, graph: nn.Module, reference: nn.Module, metadata: Metadata, images: Tensor | None = None
) -> tuple[Engine, float]:
    """Write ``graph`` to ``path`` (.xml) and the weights beside it (.bin); otherwise as ``save_onnx``."""
    openvino = optional("openvino", "openvino", "--format openvino")
    example = _images(metadata, 2)
    with _quiet():
        model = openvino.convert_model(graph, example_input=example, input=[-1, *example.shape[1:]])
    model.set_rt_info(metadata_text(metadata), KEY)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".openvino-") as folder:
            made = Path(folder) / path.name
            openvino.save_model(model, made, compress_to_fp16=False)
            compiled = openvino.compile_model(made, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            engine = Engine(lambda x: compiled(x)[0])
            difference = logits_difference(path, engine, reference, metadata, images)
            made.with_suffix(".bin").replace(path.with_suffix(".bin"))
            made.replace(path)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be written ({error.strerror})") from None
    return engine, difference


def logits_difference(
    path: Path, engine: Engine, reference: nn.Module, metadata: Metadata, images: Tensor | None
) -> float:
    """Return the largest difference of logits on random images and on ``images``, if given.

    Raises ModelFileError if it is above TOLERANCE of the largest logit.
    """
    largest = 0.0
    for batch in [*(_images(metadata, count) for count in _BATCHES), *([] if images is None else [images])]:
        with torch.no_grad():
            expected, found = reference(batch), engine(batch)
        difference, most = float((found - expected).abs().max()), float(expected.abs().max())
        if found.shape != expected.shape or not difference <= TOLERANCE * max(most, 1e-3):
            message = f"logits differ by {difference:.3g} from torch's, which go up to {most:.3g}"
            raise ModelFileError(f"{path}: not written: {message}")
        largest = max(largest, difference)
    return largest


def _images(metadata: Metadata, batch: int) -> Tensor:
    """Return normal random images, as normalised ones are."""
    size = metadata["image_size"]
    generator = torch.Generator().manual_seed(batch)
    return torch.randn(batch, metadata["channels"], size, size, generator=generator)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep exporters, which report their own steps, from printing."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
