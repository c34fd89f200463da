"""Read tensors from safetensors files: plain ones, packed ones (``util/packed_weights.py``), compressed with zstd.

A packed file says so in its metadata: the JSON under ``st3sweep`` has ``shapes``, of each packed weight by name.
"""

from __future__ import annotations

import json

import numpy as np
import torch
from safetensors.torch import load
from torch import Tensor

from st3sweep.util import packed_weights
from st3sweep.util.extras import optional

KEY = "st3sweep"
_ZSTD = b"\x28\xb5\x2f\xfd"  # RFC 8878: the first bytes of a frame


def read_safetensors(content: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a file's ``content``, weights unpacked to float32, and its metadata.

    Raises UserError for a compressed file without the package, and exceptions of any type where the file is damaged.
    """
    if content.startswith(_ZSTD):
        zstd = optional("zstandard", "zstd", "reading a compressed file").ZstdDecompressor()
        content = zstd.stream_reader(content, read_across_frames=True).read()
    state = load(content)
    length = int.from_bytes(content[:8], "little")
    metadata: dict[str, str] = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    return _unpacked(state, metadata.get(KEY)), metadata


def _unpacked(state: dict[str, Tensor], text: str | None) -> dict[str, Tensor]:
    about = json.loads(text) if text else {}
    for name, shape in (about.get("shapes", {}) if isinstance(about, dict) else {}).items():
        names = {part: f"{name}.{part}" for part in ("values", *packed_weights.PLACES)}
        parts = {part: state.pop(full).numpy() for part, full in names.items() if full in state}
        weight = packed_weights.unpack(parts, shape)
        state[name] = torch.from_numpy(weight.astype(np.float32, copy=False))
    return state
