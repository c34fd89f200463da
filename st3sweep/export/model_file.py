"""Save and load a trained model as one file: tensors, zeros in place or packed, and metadata to rebuild and feed it.

The tensors are those of the plain model's state_dict; ``packed_file.py`` stores only their non-zeros. Beside them is
one JSON text, under the key ``st3sweep``: in the metadata of a safetensors file, or next to ``state_dict`` in a ``.pt``
file. Its fields: ``version`` of this format, ``sha256`` of all the rest (of the tensors as loaded), those of
``from_run.export`` and those of ``data.Splits.input_facts``.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import torch as safetensors
from torch import Tensor, nn

from st3sweep.export import packed_file
from st3sweep.networks import build_model, flops
from st3sweep.networks.weight_file import KEY, read_safetensors
from st3sweep.sparse.masks import nonzeros
from st3sweep.sparse.method import prunable
from st3sweep.trial.model import ModelConfig
from st3sweep.util.errors import UserError
from st3sweep.util.storage.atomic import atomic_write

VERSION = 1  # of files of plain tensors
PACKED_VERSION = 2
FORMATS = ("safetensors", "pt", "packed")

StateDict = dict[str, Tensor]
Metadata = dict[str, Any]


class ModelFileError(UserError):
    """A file holds no intact model exported by st3sweep, or cannot be written; the message names it."""


def save(
    path: Path,
    state: StateDict,
    metadata: Metadata,
    format_: str = "safetensors",
    *,
    fp16: bool = False,
    zstd: bool = False,
) -> nn.Module:
    """Write the model to ``path`` and return it as read back from there; ``format_`` is one of ``FORMATS``.

    A packed file stores its values in float16 with ``fp16``, which must be exact (``half.py`` rounds them), and is
    compressed with ``zstd``. The file is checked before it gets its name: it must have the recorded zeros
    (``metadata["zeros"]``, by layer), ``sparsity`` and ``gflops``. Raises ModelFileError if it has not, or cannot be
    written; UserError where zstd is absent.
    """
    # Copies, because safetensors refuses tensors that share memory or are not contiguous.
    state = {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in state.items()}
    content = _packed(state, metadata, fp16, zstd) if format_ == "packed" else _plain(state, metadata, format_)
    try:
        with atomic_write(path) as file:
            file.write(content)
            file.flush()
            model, metadata = load_exported(file.name)
            check_counts(path, model, metadata)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be written ({error.strerror})") from None
    return model


def load_exported(path: Path | str) -> tuple[nn.Module, Metadata]:
    """Load the model in ``path``, on the CPU in evaluation mode, and its metadata. Runs no code from the file.

    It takes x (B, channels, image_size, image_size), pixels scaled to [0, 1] less ``mean``, divided by ``std``, and
    gives logits (B, num_classes). Raises ModelFileError if the file is absent, truncated, altered or not exported by
    st3sweep.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"{path}: not found")
    state, text = _read(path)
    try:
        metadata = json.loads(text)
        version, claimed = metadata["version"], metadata.pop("sha256")
        known = PACKED_VERSION if "shapes" in metadata else VERSION
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ModelFileError(f"{path}: not a model exported by st3sweep (no such metadata)") from None
    if version != known:
        raise ModelFileError(f"{path}: format version {version}, but this st3sweep reads {known}")
    if _hash(state, metadata) != claimed or metadata_text({**metadata, "sha256": claimed}) != text:
        raise ModelFileError(f"{path}: altered (its checksum does not match)")
    try:
        return rebuilt(state, metadata), metadata
    except ValidationError:
        raise ModelFileError(
            f"{path}: its model {metadata['model'].get('arch')} is unknown; import its plugin"
        ) from None


def rebuilt(state: StateDict, metadata: Metadata) -> nn.Module:
    """Build the model that ``metadata`` describes, with the tensors of ``state``, in evaluation mode.

    Raises pydantic's ValidationError for a model that is not registered.
    """
    config: ModelConfig = ModelConfig.parse(metadata["model"])
    model = build_model(config, metadata["num_classes"], metadata["channels"])
    model.load_state_dict(state)
    return model.eval()


def counted(model: nn.Module, metadata: Metadata) -> tuple[list[flops.LayerCost], list[int]]:
    """Return the conv and linear layers of ``model`` with their dense cost, and the number of zeros in each weight."""
    size = metadata["image_size"]
    costs = flops.layer_costs(model, (metadata["channels"], size, size))
    alive = nonzeros(list(prunable(model).values()))
    return costs, [layer.numel - count for layer, count in zip(costs, alive, strict=True)]


def totals(costs: list[flops.LayerCost], zeros: list[int]) -> dict[str, float]:
    """Return sparsity and gflops from the result of ``counted``."""
    densities = [1 - count / layer.numel for layer, count in zip(costs, zeros, strict=True)]
    sparsity = sum(zeros) / sum(layer.numel for layer in costs)
    return {"sparsity": sparsity, "gflops": flops.gflops(costs, densities)}


def _plain(state: StateDict, metadata: Metadata, format_: str) -> bytes:
    metadata = {**metadata, "version": VERSION}
    text = metadata_text({**metadata, "sha256": _hash(state, metadata)})
    if format_ == "safetensors":
        return safetensors.save(state, {KEY: text})
    buffer = io.BytesIO()
    torch.save({"state_dict": state, KEY: text}, buffer)
    return buffer.getvalue()


def _packed(state: StateDict, metadata: Metadata, fp16: bool, zstd: bool) -> bytes:
    names = packed_file.packable(state, list(metadata["zeros"]))
    state = packed_file.positive_zeros(state, names)
    metadata = {
        **metadata,
        "version": PACKED_VERSION,
        "shapes": {name: list(state[name].shape) for name in names},
        "values": "float16" if fp16 else "float32",
    }
    metadata["card"] = packed_file.card(metadata)
    text = metadata_text({**metadata, "sha256": _hash(state, metadata)})
    content = packed_file.packed_content(state, metadata, {KEY: text})
    return packed_file.compressed(content) if zstd else content


def check_counts(path: Path, model: nn.Module, metadata: Metadata) -> None:
    """Raise ModelFileError unless the zeros, sparsity and gflops of ``model`` are those recorded."""
    costs, zeros = counted(model, metadata)
    found = {layer.name: count for layer, count in zip(costs, zeros, strict=True)}
    recorded = metadata["zeros"]
    for name in {**found, **recorded}:
        if found.get(name) != recorded.get(name):
            message = f"{found.get(name)} zeros in layer {name}, but {recorded.get(name)} are recorded"
            raise ModelFileError(f"{path}: not written: {message}")
    for name, value in totals(costs, zeros).items():
        if not math.isclose(value, metadata[name], rel_tol=1e-9, abs_tol=1e-12):  # summed in another order
            raise ModelFileError(f"{path}: not written: {name} is {value:.9g}, but {metadata[name]:.9g} is recorded")


def _read(path: Path) -> tuple[StateDict, Any]:
    """Return tensors and JSON text of a file of any format, whatever its name."""
    content = path.read_bytes()
    try:
        if content.startswith(b"PK"):  # a .pt file is a zip archive
            saved = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            return saved["state_dict"], saved[KEY]
        state, metadata = read_safetensors(content)
        return state, metadata.get(KEY)
    except UserError:
        raise
    except Exception:  # readers raise exceptions of any type for broken bytes
        raise ModelFileError(f"{path}: truncated, altered or not an exported model") from None


def metadata_text(metadata: Metadata) -> str:
    """Return the JSON that a file holds, the same for the same metadata."""
    return json.dumps(metadata, sort_keys=True, ensure_ascii=False)


def _hash(state: StateDict, metadata: Metadata) -> str:
    digest = hashlib.sha256(metadata_text(metadata).encode())
    for name in sorted(state):
        tensor = state[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
