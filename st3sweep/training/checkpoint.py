"""Save and load checkpoints: written atomically, verified by a hash, loaded without running code from the file."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import torch

from st3sweep.sparse.method import Method
from st3sweep.training.checkpoint_files import previous
from st3sweep.util.storage.atomic import atomic_write

_MAGIC = b"st3sweep"
_HEADER = len(_MAGIC) + hashlib.sha256().digest_size


class CheckpointError(Exception):
    """A checkpoint file is truncated, altered or not written by st3sweep; the message names it."""


def save(path: Path, state: dict[str, Any], method: Method, *, keep_previous: bool = False) -> None:
    """Write ``state`` to ``path``; with ``keep_previous`` the existing file becomes ``<name>.previous``.

    A crash leaves the old or the new file intact; a missing folder is created. Raises RuntimeError inside a sparse
    scope, where the model holds θ̂ and θ would be lost.
    """
    check_outside_scope(method)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, keep=previous(path) if keep_previous else None) as file:
        file.write(_MAGIC + hashlib.sha256(payload).digest() + payload)


def check_outside_scope(method: Method) -> None:
    """Raise RuntimeError inside a sparse scope."""
    if method.in_scope:
        raise RuntimeError("a checkpoint inside sparse_weights would hold θ̂ in place of θ")


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Return the state saved at ``path``. Raises CheckpointError if it is damaged."""
    content = path.read_bytes()
    digest, payload = content[len(_MAGIC) : _HEADER], content[_HEADER:]
    if not content.startswith(_MAGIC) or hashlib.sha256(payload).digest() != digest:
        raise CheckpointError(f"{path}: truncated or altered (its checksum does not match)")
    try:
        return torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(f"{path}: holds something other than tensors and plain values") from None


def load_latest(path: Path, device: torch.device | str = "cpu") -> tuple[dict[str, Any] | None, list[str]]:
    """Return the newest intact state of ``path`` and its predecessor, or None; and messages for damaged files."""
    refused: list[str] = []
    for candidate in (path, previous(path)):
        if candidate.exists():
            try:
                return load(candidate, device), refused
            except CheckpointError as error:
                refused.append(str(error))
    return None, refused
