"""Write a checked model as ONNX, its zeros in place: the wire format of the few messages that it takes, by hand.

onnxruntime comes without the package onnx, and the folder must run without it. Numbers of fields: onnx.proto3.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from st3sweep.sparse_runtime.model_folder import Model

OPSET, IR_VERSION = 17, 8
_INT, _INTS = (3, 2), (8, 7)  # field and type of an attribute
_ACTS = {"relu": "Relu", "hardswish": "HardSwish"}


def onnx_model(model: Model) -> bytes:
    """Return an ONNX model that takes ``images`` (batch, C, H, W) and gives ``logits`` (batch, classes)."""
    nodes: list[bytes] = []
    names = ["images"]
    for position, op in enumerate(model.ops):
        name = f"v{position + 1}"
        _nodes(nodes, op, [names[one] for one in op["inputs"]], name)
        names.append(name)
    nodes.append(_node("Identity", [names[-1]], "logits"))
    tensors = [_constant(name, array) for name, array in model.tensors.items()]
    tensors += [_constant(name, np.array(value, np.float32)) for name, value in (("zero", 0.0), ("six", 6.0))]
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, b"model")
    graph += b"".join(_field(5, tensor) for tensor in tensors)
    graph += _field(11, _shaped("images", model.shapes[0])) + _field(12, _shaped("logits", model.shapes[-1]))
    return _number(1, IR_VERSION) + _field(7, graph) + _field(8, _number(2, OPSET))


def _nodes(nodes: list[bytes], op: dict[str, Any], inputs: list[str], name: str) -> None:
    """Add the nodes of ``op``: its own, an addition, an activation; the last makes ``name``."""
    kind, act = op["op"], op.get("act", "none")
    steps: list[tuple[str, list[str], dict[str, Any]]] = []
    if kind == "conv":
        window = {"strides": op["stride"], "pads": op["padding"] * 2, "dilations": op["dilation"]}
        steps.append(("Conv", [inputs[0], op["weight"], op["bias"]], {**window, "group": op["groups"]}))
    elif kind == "linear":
        steps.append(("Gemm", [inputs[0], op["weight"], op["bias"]], {"transB": 1}))
    elif kind in ("maxpool", "avgpool"):
        window = {"kernel_shape": op["kernel"], "strides": op["stride"], "pads": op["padding"] * 2}
        window["ceil_mode"] = int(op["ceil"])
        if kind == "avgpool":
            window["count_include_pad"] = int(op["count_padding"])
        steps.append(("MaxPool" if kind == "maxpool" else "AveragePool", [inputs[0]], window))
    elif kind == "mean":
        steps.append(("GlobalAveragePool", inputs, {}))
    elif kind == "concat":
        steps.append(("Concat", inputs, {"axis": 1}))
    elif kind == "flatten":
        steps.append(("Flatten", inputs, {}))
    else:
        steps.append(("Identity", [inputs[0]], {}))
    if kind in ("conv", "pointwise") and len(inputs) == 2:
        steps.append(("Add", ["", inputs[1]], {}))
    if act != "none":
        steps.append(("Clip", ["", "zero", "six"], {}) if act == "relu6" else (_ACTS[act], [""], {}))
    for number, (what, read, attributes) in enumerate(steps):
        made = name if number == len(steps) - 1 else f"{name}.{number}"
        nodes.append(_node(what, [one or f"{name}.{number - 1}" for one in read], made, **attributes))


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes([*made, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _field(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _node(kind: str, inputs: list[str], output: str, **attributes: Any) -> bytes:
    content = b"".join(_field(1, one.encode()) for one in inputs) + _field(2, output.encode())
    content += _field(4, kind.encode())
    return content + b"".join(_field(5, _attribute(name, value)) for name, value in attributes.items())


def _attribute(name: str, value: Any) -> bytes:
    field, type_ = _INTS if isinstance(value, list) else _INT
    content = b"".join(_number(field, one) for one in (value if isinstance(value, list) else [value]))
    return _field(1, name.encode()) + content + _number(20, type_)


def _constant(name: str, array: np.ndarray[Any, Any]) -> bytes:
    shape = b"".join(_number(1, size) for size in array.shape)
    return shape + _number(2, 1) + _field(8, name.encode()) + _field(9, np.ascontiguousarray(array, "<f4").tobytes())


def _shaped(name: str, shape: tuple[int, ...]) -> bytes:
    dims = _field(1, _field(2, b"batch")) + b"".join(_field(1, _number(1, size)) for size in shape)
    return _field(1, name.encode()) + _field(2, _field(1, _number(1, 1) + _field(2, dims)))
