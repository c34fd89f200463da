"""Make the content of a packed model file: one safetensors file that holds only the non-zeros of prunable weights.

Each weight NAME becomes ``NAME.values`` and ``NAME.mask`` or ``NAME.gaps`` (``util/packed_weights.py``); other tensors
are as they are. The JSON under ``st3sweep`` has also ``shapes``, of the weights by name; ``values``, float32 or
float16; and ``card``, a text: what the model is, what it takes, and how numpy reads the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from st3sweep.export.preprocessing import in_words
from st3sweep.util import packed_weights
from st3sweep.util.extras import optional

# Reads a packed file without st3sweep and torch; a test runs it so.
LOADER = """\
file = safe_open(path, "np"); about = json.loads(file.metadata()["st3sweep"])
state = {name: file.get_tensor(name) for name in file.keys()}
for name, shape in about["shapes"].items():
    bits, gaps = state.pop(name + ".mask", None), state.pop(name + ".gaps", None)
    i = np.flatnonzero(np.unpackbits(bits)) if gaps is None else (gaps + (gaps < 255)).cumsum(dtype=int)[gaps < 255] - 1
    state[name] = np.zeros(shape, "f4"); state[name].flat[i] = state.pop(name + ".values")
"""

_CARD = """\
{model}, trained on {dataset} with {method}: {kept:.1f} % of {numel} weights are not zero.
Cost of an image: {gflops:.6g} GFLOPs (multiply-accumulates that are not with zero), dense {gflops_dense:.6g}.
Accuracy (top-1): {accuracy}.
Input: float32 (B, {channels}, {image_size}, {image_size}); {input}. Output: logits (B, {num_classes}){names}.
To read the file (import json, numpy as np; from safetensors import safe_open):

{loader}"""


def packable(state: Mapping[str, Tensor], layers: Sequence[str]) -> list[str]:
    """Return the names of the weights of ``layers`` that are packed: those in float32."""
    names = [f"{layer}.weight" if layer else "weight" for layer in layers]
    return [name for name in names if state[name].dtype == torch.float32]


def positive_zeros(state: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """Return ``state`` with -0.0 in ``names`` written as 0.0: a mask times a negative weight gives -0.0."""
    return {**state, **{name: torch.where(state[name] == 0, 0.0, state[name]) for name in names}}


def packed_content(state: Mapping[str, Tensor], metadata: Mapping[str, Any], texts: dict[str, str]) -> bytes:
    """Return the bytes of the file: ``metadata["shapes"]`` names the weights to pack, ``texts`` is its metadata."""
    packed = _packed(state, metadata)
    rest = {name: tensor for name, tensor in state.items() if name not in metadata["shapes"]}
    return save({**rest, **packed}, texts)


def sizes(state: Mapping[str, Tensor], names: Sequence[str], dtype: str) -> dict[str, float]:
    """Return the bytes of the weights ``names`` packed, in an ideal code, and of the other tensors as they are."""
    weights = [state[name].detach().numpy().astype(dtype) for name in names]
    return {
        "weights": sum(part.nbytes for weight in weights for part in packed_weights.pack(weight).values()),
        "ideal": sum(map(packed_weights.ideal_bytes, weights)),
        "other_tensors": sum(t.numel() * t.itemsize for name, t in state.items() if name not in names),
    }


def compressed(content: bytes) -> bytes:
    """Return a safetensors file compressed with zstd, one frame for the tensors of a type: each has its statistics.

    ``zstd -d`` gives the file back. Raises UserError without the package zstandard.
    """
    encoder = optional("zstandard", "zstd", "--zstd").ZstdCompressor(level=19)
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    tensors = sorted(header.values(), key=lambda tensor: tensor["data_offsets"])  # type: ignore[no-any-return]
    ends = [0, *(list(group)[-1]["data_offsets"][1] for _, group in groupby(tensors, lambda tensor: tensor["dtype"]))]
    parts = [content[:start], *(content[start + a : start + b] for a, b in pairwise(ends))]
    return b"".join(encoder.compress(part) for part in parts)


def card(metadata: Mapping[str, Any]) -> str:
    """Return the model's card as text."""
    percent = [f"{name[:-5]} {metadata[name]:.2f} %" for name in ("val_top1", "test_top1") if metadata.get(name)]
    numel = sum(int(np.prod(shape)) for shape in metadata["shapes"].values())
    zeros = sum(metadata["zeros"].values())
    return _CARD.format(
        **{key: metadata.get(key) for key in ("dataset", "method", "channels", "image_size", "num_classes", "gflops")},
        model=_named(metadata["model"]),
        kept=100 * (1 - zeros / numel),
        numel=numel,
        gflops_dense=metadata.get("gflops_dense", float("nan")),
        accuracy=", ".join(percent) or "not recorded",
        input=in_words(metadata["preprocessing"]),
        names=", named in class_names" if metadata.get("class_names") else "",
        loader=LOADER,
    )


def _named(model: Mapping[str, Any]) -> str:
    """Return a model's name and the fields that shape it."""
    about = [f"{key} {value}" for key, value in model.items() if key not in ("arch", "weights", "classifier")]
    return model["arch"] + (f" ({', '.join(about)})" if about else "")


def _packed(state: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> dict[str, Tensor]:
    packed = {}
    for name in metadata["shapes"]:
        weight = state[name].numpy().astype(metadata["values"])
        for part, array in packed_weights.pack(weight).items():
            packed[f"{name}.{part}"] = torch.from_numpy(array)
    return packed
