"""Translate a traced model into the operations of the sparse engine (``sparse_runtime/model_folder.py``)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from st3sweep.export.channel_values import ADDS, kind, shape
from st3sweep.util.errors import UserError

ACTIVATIONS: dict[Any, str] = {
    nn.ReLU: "relu", F.relu: "relu", torch.relu: "relu", "relu": "relu", "relu_": "relu",
    nn.ReLU6: "relu6", F.relu6: "relu6", nn.Hardswish: "hardswish", F.hardswish: "hardswish",
}  # fmt: skip
SAME = {nn.Identity, nn.Dropout, nn.Dropout2d, F.dropout, "contiguous"}  # in evaluation mode
MAX_POOLS, AVG_POOLS = {nn.MaxPool2d, F.max_pool2d}, {nn.AvgPool2d, F.avg_pool2d}
ADAPTIVE = {nn.AdaptiveAvgPool2d, F.adaptive_avg_pool2d}
FLATTENS = {nn.Flatten, torch.flatten, "flatten", "view", "reshape", torch.reshape}
_POOL = ("kernel_size", "stride", "padding")
_MAX_POOL = (*_POOL, "dilation", "ceil_mode", "return_indices")
_AVG_POOL = (*_POOL, "ceil_mode", "count_include_pad", "divisor_override")

Op = dict[str, Any]
Arrays = dict[str, np.ndarray[Any, Any]]


@torch.no_grad()
def sparse_ops(graph: fx.GraphModule, input_shape: tuple[int, int, int]) -> tuple[list[Op], Arrays]:
    """Return the operations of ``graph`` and their tensors, activations and additions joined to the layers before.

    Raises UserError that names what the engine does not have.
    """
    ShapeProp(graph).propagate(torch.zeros(1, *input_shape))
    return _Translation(graph).result()


class _Translation:
    def __init__(self, graph: fx.GraphModule):
        self.modules = dict(graph.named_modules(remove_duplicate=False))
        self.ops: list[Op] = []  # each with "out", the number of what it makes
        self.arrays: Arrays = {}
        self.values: dict[fx.Node, int] = {}
        self.count = 0
        self.output = 0
        for node in graph.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = 0
            elif node.op == "output":
                self.output = self._read(node.args[0], node)
            elif shape(node):  # the rest are numbers, such as the batch
                self.values[node] = self._translate(node)

    def result(self) -> tuple[list[Op], Arrays]:
        ops = _additions_joined(_activations_joined(self.ops, self.output), self.output)
        numbers = {0: 0} | {op["out"]: position + 1 for position, op in enumerate(ops)}
        if numbers.get(self.output) != len(ops):
            raise UserError("--format sparse: the model's last operation does not give its output")
        numbered = [{**op, "inputs": [numbers[one] for one in op["inputs"]]} for op in ops]
        return [{key: value for key, value in op.items() if key != "out"} for op in numbered], self.arrays

    def _read(self, node: Any, reader: fx.Node) -> int:
        if not isinstance(node, fx.Node) or node not in self.values:
            raise self._unsupported(reader, f"reads {node}")
        return self.values[node]

    def _unsupported(self, node: fx.Node, why: str = "") -> UserError:
        what = kind(node, self.modules)
        named = what if isinstance(what, str) else getattr(what, "__name__", str(what))
        return UserError(f"--format sparse: {node.name} ({named}) is not supported{': ' + why if why else ''}")

    def _op(self, name: str, inputs: list[int], **fields: Any) -> int:
        self.count += 1
        self.ops.append({"op": name, "inputs": inputs, **fields, "out": self.count})
        return self.count

    def _translate(self, node: fx.Node) -> int:
        what = kind(node, self.modules)
        module = self.modules.get(str(node.target)) if node.op == "call_module" else None
        if what in (torch.cat, torch.concat):
            return self._cat(node)
        source = self._read(node.args[0] if node.args else None, node)
        if isinstance(module, nn.Conv2d):
            return self._conv(node, module, source)
        if isinstance(module, nn.Linear):
            return self._linear(node, module, source)
        if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            return self._norm(node, module, source)
        if what in ACTIVATIONS:
            return self._op("pointwise", [source], act=ACTIVATIONS[what])
        if what in ADDS and len(node.args) == 2 and not node.kwargs:
            return self._op("pointwise", [source, self._read(node.args[1], node)], act="none")
        if what in SAME:
            return source
        if what in MAX_POOLS | AVG_POOLS:
            return self._pool(node, module, source, is_max=what in MAX_POOLS)
        if what in ADAPTIVE:
            return self._adaptive(node, source)
        if what in ("mean", torch.mean):
            return self._mean(node, source)
        if what in FLATTENS and len(shape(node)) == 2 and shape(node)[0] == 1:
            return source if len(shape(node.args[0])) == 2 else self._op("flatten", [source])
        raise self._unsupported(node)

    def _tensors(self, node: fx.Node, weight: torch.Tensor, bias: torch.Tensor | None) -> dict[str, str]:
        names = {"weight": f"{node.name}.weight", "bias": f"{node.name}.bias"}
        self.arrays[names["weight"]] = weight.detach().float().numpy()
        self.arrays[names["bias"]] = (torch.zeros(len(weight)) if bias is None else bias.detach().float()).numpy()
        return names

    def _conv(self, node: fx.Node, conv: nn.Conv2d, source: int) -> int:
        padding: Any = conv.padding
        if padding == "valid":
            padding = [0, 0]
        elif padding == "same":
            total = [far * (kernel - 1) for far, kernel in zip(conv.dilation, conv.kernel_size, strict=True)]
            if any(one % 2 for one in total):
                raise self._unsupported(node, "its padding is not the same on both sides")
            padding = [one // 2 for one in total]
        if conv.padding_mode != "zeros" and any(padding):
            raise self._unsupported(node, f"padding_mode {conv.padding_mode}")
        return self._op(
            "conv", [source], **self._tensors(node, conv.weight, conv.bias), stride=list(conv.stride),
            padding=list(padding), dilation=list(conv.dilation), groups=conv.groups, act="none",
        )  # fmt: skip

    def _linear(self, node: fx.Node, linear: nn.Linear, source: int) -> int:
        if len(shape(node)) != 2:
            raise self._unsupported(node, f"its output has the shape {shape(node)}")
        return self._op("linear", [source], **self._tensors(node, linear.weight, linear.bias), act="none")

    def _norm(self, node: fx.Node, norm: nn.BatchNorm2d, source: int) -> int:
        """Add a batch norm that could not be folded as a depthwise convolution of one weight a channel."""
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = 1 / torch.sqrt(norm.running_var.double() + norm.eps)
        scale = scale if norm.weight is None else scale * norm.weight.double()
        shift = -norm.running_mean.double() * scale
        shift = shift if norm.bias is None else shift + norm.bias.double()
        names = self._tensors(node, scale.reshape(-1, 1, 1, 1), shift)
        one, none = [1, 1], [0, 0]
        return self._op(
            "conv", [source], **names, stride=one, padding=none, dilation=one, groups=norm.num_features, act="none"
        )

    def _pool(self, node: fx.Node, module: nn.Module | None, source: int, *, is_max: bool) -> int:
        names = _MAX_POOL if is_max else _AVG_POOL
        if module is not None:
            given = {name: getattr(module, name) for name in names}
        else:
            given = {**dict(zip(names, node.args[1:], strict=False)), **node.kwargs}
        if given.get("dilation", 1) not in (1, (1, 1)) or given.get("return_indices") or given.get("divisor_override"):
            raise self._unsupported(node, "with dilation, indices or a divisor")
        kernel = _pair(given["kernel_size"])
        fields: Op = {"kernel": kernel, "stride": _pair(given.get("stride") or kernel)}
        fields |= {"padding": _pair(given.get("padding", 0)), "ceil": bool(given.get("ceil_mode", False))}
        if not is_max:
            fields["count_padding"] = bool(given.get("count_include_pad", True))
        return self._op("maxpool" if is_max else "avgpool", [source], **fields)

    def _adaptive(self, node: fx.Node, source: int) -> int:
        before, after = shape(node.args[0])[2:], shape(node)[2:]
        if after == (1, 1):
            return self._op("mean", [source])
        if before == after:
            return source
        if len(after) != 2 or any(have % want for have, want in zip(before, after, strict=True)):
            raise self._unsupported(node, f"{before} do not divide into {after}")
        kernel = [have // want for have, want in zip(before, after, strict=True)]
        return self._op(
            "avgpool", [source], kernel=kernel, stride=kernel, padding=[0, 0], ceil=False, count_padding=False
        )

    def _mean(self, node: fx.Node, source: int) -> int:
        dims = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
        read = shape(node.args[0])
        if len(read) != 4 or not isinstance(dims, tuple | list) or {int(one) % 4 for one in dims} != {2, 3}:  # type: ignore[arg-type]
            raise self._unsupported(node, "only over height and width")
        pooled = self._op("mean", [source])
        return pooled if len(shape(node)) == 4 else self._op("flatten", [pooled])

    def _cat(self, node: fx.Node) -> int:
        dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
        if len(shape(node)) != 4 or dim not in (1, -3) or not isinstance(node.args[0], tuple | list):
            raise self._unsupported(node, "only of channels")
        return self._op("concat", [self._read(one, node) for one in node.args[0]])


def _pair(value: Any) -> list[int]:
    return [int(one) for one in value] if isinstance(value, tuple | list) else [int(value)] * 2


def _readers(ops: list[Op], output: int) -> Counter[int]:
    return Counter([output, *(one for op in ops for one in op["inputs"])])


def _activations_joined(ops: list[Op], output: int) -> list[Op]:
    """Join each activation to the operation whose only reader it is."""
    readers = _readers(ops, output)
    made: dict[int, Op] = {}
    kept = []
    for op in ops:
        before = made.get(op["inputs"][0])
        alone = op["op"] == "pointwise" and len(op["inputs"]) == 1 and readers[op["inputs"][0]] == 1
        if alone and before is not None and before.get("act") == "none":
            before.update(act=op["act"], out=op["out"])
        else:
            kept.append(op)
            before = op
        made[op["out"]] = before
    return kept


def _additions_joined(ops: list[Op], output: int) -> list[Op]:
    """Join each addition to a convolution whose only reader it is, which then runs where the addition did."""
    readers = _readers(ops, output)
    made = {op["out"]: op for op in ops}
    gone = set()
    joined = []
    for op in ops:
        if op["op"] == "pointwise" and len(op["inputs"]) == 2:
            for one, other in (op["inputs"], op["inputs"][::-1]):
                conv = made.get(one, {})
                plain = conv.get("op") == "conv" and conv["act"] == "none" and len(conv["inputs"]) == 1
                if plain and readers[one] == 1:
                    gone.add(one)
                    op = {**conv, "inputs": [conv["inputs"][0], other], "act": op["act"], "out": op["out"]}
                    made[op["out"]] = op
                    break
        joined.append(op)
    return [op for op in joined if op["out"] not in gone]
