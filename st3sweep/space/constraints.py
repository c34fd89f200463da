"""Parse and evaluate constraints between fields, e.g. ``sparsity.ramp.end - sparsity.ramp.start >= 0.2``.

Allowed are numbers, text, dotted fields, + - * /, comparisons, and / or / not; no code is executed. Times are fractions
of training, also those given in epochs. A constraint on a field that a point lacks is met.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip


class ConstraintError(Exception):
    """The text is not a valid constraint; the message says why."""


class _Absent(Exception):
    """The point has no such field."""


@dataclass(frozen=True)
class Constraint:
    """A parsed condition on a trial; ``paths`` are the fields that it names."""

    text: str
    tree: ast.expr
    paths: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Parse ``text``. Raises ConstraintError unless it compares fields and values."""
        try:
            tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError) as error:  # ValueError: a null byte
            raise ConstraintError(f"cannot be read ({getattr(error, 'msg', error)})") from None
        paths: list[str] = []
        _check(tree, paths)
        if not _is_condition(tree):
            raise ConstraintError("is not a condition: compare with <, <=, >, >=, == or !=")
        if not paths:
            raise ConstraintError("names no field")
        return cls(text, tree, tuple(dict.fromkeys(paths)))

    def violated(self, value: Callable[[str], Any]) -> bool:
        """Whether the condition is false; ``value(path)`` returns a field's value, None if it is absent."""
        try:
            return not self._holds(value)
        except (TypeError, ZeroDivisionError):
            return True

    def mismatch(self, value: Callable[[str], Any]) -> str | None:
        """Return why the condition cannot be evaluated, e.g. it compares text with a number; else None."""
        try:
            self._holds(value)
        except ZeroDivisionError:
            return "divides by zero"
        except TypeError:
            return "compares, or calculates with, values of different kinds"
        return None

    def _holds(self, value: Callable[[str], Any]) -> bool:
        try:
            return bool(_evaluate(self.tree, value))
        except _Absent:
            return True


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (parent := _dotted(node.value)):
        return f"{parent}.{node.attr}"
    return None


def _is_condition(node: ast.expr) -> bool:
    match node:
        case ast.BoolOp(values=values):
            return all(map(_is_condition, values))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _is_condition(operand)
    return isinstance(node, ast.Compare)


def _check(node: ast.expr, paths: list[str]) -> None:
    if (path := _dotted(node)) is not None:
        paths.append(path)
        return
    match node:
        case ast.Constant(value=bool() | int() | float() | str()):
            below: list[ast.expr] = []
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            below = [left, right]
        case ast.UnaryOp(op=ast.USub() | ast.Not(), operand=operand):
            below = [operand]
        case ast.BoolOp(values=values):
            below = values
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _COMPARE for op in ops):
            below = [left, *others]
        case _:
            allowed = "fields, numbers, text, + - * /, comparisons, and, or, not"
            raise ConstraintError(f"{ast.unparse(node)} is not allowed in a constraint, only {allowed}")
    for part in below:
        _check(part, paths)


def _evaluate(node: ast.expr, value: Callable[[str], Any]) -> Any:
    if (path := _dotted(node)) is not None:
        if (found := value(path)) is None:
            raise _Absent(path)
        return found
    match node:
        case ast.Constant():
            return node.value
        case ast.BinOp():
            return _ARITHMETIC[type(node.op)](_evaluate(node.left, value), _evaluate(node.right, value))
        case ast.UnaryOp(op=ast.USub()):
            return -_evaluate(node.operand, value)
        case ast.UnaryOp():
            return not _evaluate(node.operand, value)
        case ast.BoolOp(op=ast.And()):
            return all(_evaluate(part, value) for part in node.values)
        case ast.BoolOp():
            return any(_evaluate(part, value) for part in node.values)
        case ast.Compare():
            terms = [_evaluate(part, value) for part in (node.left, *node.comparators)]
            return all(_COMPARE[type(op)](a, b) for op, a, b in zip(node.ops, terms, terms[1:], strict=False))
    raise AssertionError(node)
