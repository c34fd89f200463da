"""Read and check an exported folder: ``ops.json``, an operation an entry, and ``weights.bin``, tensors end to end.

ops.json has ``format``, ``version``, ``input`` (C, H, W), ``classes``, ``ops``, ``tensors`` and ``about``. Value 0 is
the images, value i + 1 what ``ops[i]`` makes; the last is the logits. A tensor has ``shape`` and ``values``: first byte
and bytes of float32, little endian; with ``mask`` (likewise) only the non-zeros are stored: a bit a weight says where.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FORMAT, VERSION = "st3sweep-sparse", 1
ACTIVATIONS = ("none", "relu", "relu6", "hardswish")
LARGEST = 2**28  # numbers of a tensor or of the arena: more is a damaged file, or does not fit
LARGEST_VALUE = 2**26
LONGEST = 2**14  # kernel, stride, padding, dilation

# The fields of each operation besides "op" and "inputs".
FIELDS = {
    "conv": {"weight", "bias", "stride", "padding", "dilation", "groups", "act"},
    "linear": {"weight", "bias", "act"},
    "maxpool": {"kernel", "stride", "padding", "ceil"},
    "avgpool": {"kernel", "stride", "padding", "ceil", "count_padding"},
    "mean": set(),
    "pointwise": {"act"},
    "concat": set(),
    "flatten": set(),
}
INPUTS = {"conv": (1, 2), "pointwise": (1, 2), "concat": (1, 1000)}  # fewest and most; 1 for the rest

Shape = tuple[int, ...]
Tensors = dict[str, "np.ndarray[Any, Any]"]


class SparseModelError(ValueError):
    """A model's folder is damaged or asks for what the engine cannot do; one line that says where."""


@dataclass(frozen=True)
class Model:
    """A checked model: its operations, the shape of each value, tensors in float32, all finite."""

    ops: list[dict[str, Any]]
    shapes: list[Shape]
    tensors: Tensors
    about: dict[str, Any]


def read_folder(folder: Path) -> Model:
    """Read and check the model in ``folder``. Raises SparseModelError."""
    try:
        text = (folder / "ops.json").read_bytes()
        content = (folder / "weights.bin").read_bytes()
    except OSError as error:
        raise SparseModelError(f"{error.filename}: cannot be read ({error.strerror})") from None
    return checked(text, content, str(folder / "ops.json"))


def digest(folder: Path) -> str:
    """Return a digest of the model's files."""
    parts = (hashlib.sha256((folder / name).read_bytes()).digest() for name in ("ops.json", "weights.bin"))
    return hashlib.sha256(b"".join(parts)).hexdigest()


def checked(text: bytes | str, content: bytes, name: str = "ops.json") -> Model:
    """Return the model of the JSON ``text`` and of the bytes ``content`` of its tensors. Raises SparseModelError."""
    try:
        model = json.loads(text)
    except (ValueError, RecursionError):
        raise SparseModelError(f"{name}: not JSON") from None
    try:
        _require(isinstance(model, dict) and model.get("format") == FORMAT, f"format must be {FORMAT}")
        _require(model.get("version") == VERSION, f"version must be {VERSION}, not {model.get('version')!r}")
        tensors = _tensors(model.get("tensors"), content)
        shapes = [_image(model.get("input"))]
        ops = model.get("ops")
        _require(isinstance(ops, list) and 0 < len(ops) < 10_000, "ops must be a list of 1 to 9,999 operations")
        for position, op in enumerate(ops):
            try:
                shapes.append(_checked_op(op, shapes, tensors))
            except SparseModelError as error:
                raise SparseModelError(f"ops[{position}]: {error}") from None
        classes = _whole(model.get("classes"), "classes", 1, LARGEST)
        _require(shapes[-1] == (classes,), f"the last operation must make ({classes},), but makes {shapes[-1]}")
        about = model.get("about", {})
        _require(isinstance(about, dict), "about must be a mapping")
    except SparseModelError as error:
        raise SparseModelError(" ".join(f"{name}: {error}".splitlines())) from None
    return Model(ops, shapes, tensors, about)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise SparseModelError(message)


def _whole(value: Any, field: str, least: int, most: int) -> int:
    good = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
    _require(good, f"{field} must be a whole number from {least} to {most}, not {str(value)[:40]}")
    return int(value)


def _pair(value: Any, field: str, least: int) -> tuple[int, int]:
    _require(isinstance(value, list) and len(value) == 2, f"{field} must be two numbers, not {str(value)[:40]}")
    first, second = (_whole(one, field, least, LONGEST) for one in value)
    return first, second


def _image(value: Any) -> Shape:
    _require(isinstance(value, list) and len(value) == 3, "input must be [channels, height, width]")
    shape = tuple(_whole(one, "input", 1, LARGEST) for one in value)
    _require(math.prod(shape) <= LARGEST_VALUE, "input is too large")
    return shape


def _tensors(entries: Any, content: bytes) -> Tensors:
    _require(isinstance(entries, dict), "tensors must be a mapping")
    return {name: _tensor(f"tensors.{name[:80]}", entry, content) for name, entry in entries.items()}


def _tensor(field: str, entry: Any, content: bytes) -> np.ndarray[Any, Any]:
    known = isinstance(entry, dict) and {"shape", "values"} <= set(entry) <= {"shape", "values", "mask"}
    _require(known, f"{field} must have shape, values and at most mask")
    shape = entry["shape"]
    _require(isinstance(shape, list) and 1 <= len(shape) <= 4, f"{field}.shape must be 1 to 4 numbers")
    sizes = [_whole(one, f"{field}.shape", 1, LARGEST) for one in shape]
    count = math.prod(sizes)
    _require(count <= LARGEST, f"{field} is too large")
    values = np.frombuffer(_slice(f"{field}.values", entry["values"], content, 4), "<f4")
    if "mask" in entry:
        bits = np.frombuffer(_slice(f"{field}.mask", entry["mask"], content, 1), np.uint8)
        _require(bits.size == (count + 7) // 8, f"{field}.mask must have {(count + 7) // 8} bytes, not {bits.size}")
        at = np.flatnonzero(np.unpackbits(bits))
        _require(at.size == values.size, f"{field}: its mask has {at.size} non-zeros, but {values.size} are stored")
        _require(at.size == 0 or at[-1] < count, f"{field}.mask has a non-zero after the last weight")
        dense = np.zeros(count, np.float32)
        dense[at] = values
    else:
        _require(values.size == count, f"{field} must have {count} values, not {values.size}")
        dense = values.astype(np.float32)
    _require(bool(np.isfinite(dense).all()), f"{field} has a value that is not finite")
    return dense.reshape(sizes)


def _slice(field: str, place: Any, content: bytes, unit: int) -> bytes:
    _require(isinstance(place, list) and len(place) == 2, f"{field} must be [first byte, bytes]")
    start, size = (_whole(one, field, 0, len(content)) for one in place)
    _require(start + size <= len(content), f"{field} ends after the {len(content)} bytes of weights.bin")
    _require(size % unit == 0, f"{field} must be a whole number of {unit}-byte values")
    return content[start : start + size]


def _checked_op(op: Any, shapes: list[Shape], tensors: Tensors) -> Shape:
    """Return the shape of what ``op`` makes from values of ``shapes``."""
    kind = str(op.get("op")) if isinstance(op, dict) else "nothing"
    _require(kind in FIELDS, f"op must be one of {', '.join(FIELDS)}, not {kind[:40]}")
    fields = FIELDS[kind] | {"op", "inputs"}
    _require(set(op) == fields, f"{kind} must have the fields {', '.join(sorted(fields))}")
    fewest, most = INPUTS.get(kind, (1, 1))
    inputs = op["inputs"]
    number = isinstance(inputs, list) and fewest <= len(inputs) <= most
    _require(number, f"{kind} must have {fewest} to {most} inputs")
    read = [shapes[_whole(one, "inputs", 0, len(shapes) - 1)] for one in inputs]
    if "act" in op:
        _require(op["act"] in ACTIVATIONS, f"act must be one of {', '.join(ACTIVATIONS)}, not {str(op['act'])[:40]}")
    if kind not in ("linear", "pointwise"):
        _require(all(len(shape) == 3 for shape in read), f"{kind} reads (C, H, W), not {read}")
    made = _made(op, kind, read, tensors)
    _require(math.prod(made) <= LARGEST_VALUE, f"makes {made}, which is too large")
    return made


def _made(op: dict[str, Any], kind: str, read: list[Shape], tensors: Tensors) -> Shape:
    first = read[0]
    if kind == "conv":
        return _conv(op, read, tensors)
    if kind == "linear":
        weight = _weights(op, tensors, 2)
        _require(first == weight.shape[1:], f"weight reads {weight.shape[1:]}, but gets {first}")
        return (weight.shape[0],)
    if kind in ("maxpool", "avgpool"):
        return _pooled(op, kind, first)
    if kind == "mean":
        return (first[0], 1, 1)
    if kind == "pointwise":
        _require(all(shape == first for shape in read), f"adds values of different shapes: {read}")
        return first
    if kind == "concat":
        _require(all(shape[1:] == first[1:] for shape in read), f"joins values of different sizes: {read[:9]}")
        return (sum(shape[0] for shape in read), *first[1:])
    return (math.prod(first),)


def _weights(op: dict[str, Any], tensors: Tensors, dimensions: int) -> np.ndarray[Any, Any]:
    for field in ("weight", "bias"):
        known = isinstance(op[field], str) and op[field] in tensors
        _require(known, f"{field} {str(op[field])[:40]!r} is not among the tensors")
    weight, bias = tensors[op["weight"]], tensors[op["bias"]]
    _require(weight.ndim == dimensions, f"weight must have {dimensions} dimensions, not {weight.ndim}")
    _require(bias.shape == weight.shape[:1], f"bias must have the shape {weight.shape[:1]}, not {bias.shape}")
    return weight


def _conv(op: dict[str, Any], read: list[Shape], tensors: Tensors) -> Shape:
    weight = _weights(op, tensors, 4)
    groups = _whole(op["groups"], "groups", 1, weight.shape[0])
    _require(weight.shape[0] % groups == 0, f"{weight.shape[0]} channels do not divide into {groups} groups")
    expected = weight.shape[1] * groups
    _require(read[0][0] == expected, f"reads {expected} channels, but gets {read[0][0]}")
    stride, padding, dilation = _pair(op["stride"], "stride", 1), _pair(op["padding"], "padding", 0), op["dilation"]
    size = [
        (have + 2 * pad - far * (kernel - 1) - 1) // step + 1
        for have, kernel, step, pad, far in zip(
            read[0][1:], weight.shape[2:], stride, padding, _pair(dilation, "dilation", 1), strict=True
        )
    ]
    _require(min(size) > 0, f"its kernel is larger than its padded input of {read[0]}")
    made = (weight.shape[0], *size)
    _require(len(read) == 1 or read[1] == made, f"adds {read[-1]} to {made}")
    return made


def _pooled(op: dict[str, Any], kind: str, read: Shape) -> Shape:
    kernel, stride = _pair(op["kernel"], "kernel", 1), _pair(op["stride"], "stride", 1)
    padding = _pair(op["padding"], "padding", 0)
    for field in ("ceil", *(["count_padding"] if kind == "avgpool" else [])):
        _require(isinstance(op[field], bool), f"{field} must be true or false")
    size = []
    for have, long, step, pad in zip(read[1:], kernel, stride, padding, strict=True):
        _require(2 * pad <= long <= have + 2 * pad, f"kernel {long} does not fit {have} padded by {pad}")
        most = (have + 2 * pad - long + (step - 1 if op["ceil"] else 0)) // step + 1
        size.append(most - 1 if (most - 1) * step >= have + pad else most)  # no window begins after the image
    return (read[0], *size)
