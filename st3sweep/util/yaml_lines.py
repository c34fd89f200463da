"""Parse YAML, keeping the line and column of each key and value."""

from __future__ import annotations

import io
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from st3sweep.util.errors import Problem, SpecError, near_match

Path_ = tuple[str | int, ...]
_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2's core schema.

    ``1e-4`` is a number; ``1:30``, ``yes`` and dates are text. PyYAML's are those of YAML 1.1, which read ``1:30`` as
    90 and ``yes`` as true. ``<<`` still merges mappings.
    """


_SCALARS = {  # tag: pattern (https://yaml.org/spec/1.2.2/#103-core-schema), and first characters
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?(\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN",
        list("-+.0123456789"),
    ),
    "merge": ("<<", ["<"]),
}
_Loader.yaml_implicit_resolvers = {}
for _tag, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def _whole_number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)
MOST_BYTES, MOST_VALUES, DEEPEST = 1 << 20, 20_000, 100  # of a file: what a person or a program writes is far below


@dataclass
class Document:
    """Parsed YAML ``data`` of ``text``; ``marks`` maps a path of keys and indices to (where, line, column)."""

    file: str
    data: dict[str, Any]
    text: str
    marks: dict[Path_, tuple[str, int | None, int | None]] = field(default_factory=dict)

    def problem(self, path: Path_, message: str) -> Problem:
        """Return a Problem at ``path``, or at the nearest enclosing key in the file."""
        known = path
        while known and known not in self.marks:
            known = known[:-1]
        where, line, column = self.marks.get(known, (self.file, 1, 1))
        return Problem(where, line, column, ".".join(str(part) for part in path), message)

    def set(self, keys: Sequence[str], value: Any, where: str) -> None:
        """Set ``value`` at ``keys``; problems with it, or below it, are reported at ``where``.

        Sets nothing where a key on the way holds no mapping: validating the data reports that.
        """
        here: Any = self.data
        for key in keys[:-1]:
            here = here.setdefault(key, {})
            if not isinstance(here, dict):
                return
        here[keys[-1]] = value
        path = tuple(keys)
        self.marks = {known: mark for known, mark in self.marks.items() if known[: len(path)] != path}
        self.marks[path] = (where, None, None)

    def rename(self, old: str, new: str) -> None:
        """Give the top-level key ``old`` the name ``new``; it keeps its place in the file."""
        self.data = {new if key == old else key: value for key, value in self.data.items()}
        self.marks = {(new, *path[1:]) if path[:1] == (old,) else path: mark for path, mark in self.marks.items()}


def parse_value(text: str) -> Any:
    """Parse one YAML value, as in ``--set path=value``. Raises ValueError with a message of one line."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(_reason(error, text)[0]) from None


def read(source: Path | str | Mapping[str, Any]) -> Document:
    """Read the YAML file at the path ``source``, or plain data given in Python. Raises SpecError."""
    return _from_python(source) if isinstance(source, Mapping) else read_yaml(source)


def _from_python(data: Mapping[str, Any]) -> Document:
    """Return a document of plain data, arrays' scalars and paths included; its problems have no line."""

    def plain(value: Any) -> Any:
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if hasattr(value, "item"):  # a number of numpy or torch
            return value.item()
        raise TypeError(f"a {type(value).__name__} is no value of a setting: {value!r}")

    try:
        copied = json.loads(json.dumps(data, default=plain))
    except (TypeError, ValueError) as error:
        raise SpecError([Problem("settings", None, None, "", str(error))]) from None
    text = yaml.safe_dump(copied, sort_keys=False, allow_unicode=True)
    return Document("settings", copied, text, {(): ("settings", None, None)})


def read_yaml(path: Path | str) -> Document:
    """Parse a YAML file whose top level is a mapping. Raises SpecError for anything else."""
    file = str(path)
    text = _read(Path(path))
    try:
        loader = _Loader(text)
        node = _composed(loader, file)
        document = Document(file, {}, text)
        problems: list[Problem] = []
        if node is not None:
            _collect_marks(node, (), document, problems, ())
        if problems:
            raise SpecError(problems)
        data = loader.construct_document(node) if node is not None else None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date like 2024-99-99
        message, line, column = _reason(error, text)
        raise SpecError([Problem(file, line, column, "", f"not YAML: {message}")]) from None
    if not isinstance(data, dict):
        found = {type(None): "an empty file", list: "a list"}.get(type(data), "a single value")
        line = None if data is None else 1
        message = f"expected a mapping of names to values at the top, found {found}"
        raise SpecError([Problem(file, line, line, "", message)])
    document.data = data
    return document


def _composed(loader: _Loader, file: str) -> yaml.Node | None:
    """Return the root node; refuses one that is nested, or that its aliases expand, beyond any use."""
    try:
        node: yaml.Node | None = loader.get_single_node()
        values = 0 if node is None else _size(node, {}, 0)
    except RecursionError:
        values = math.inf
    if values == math.inf:
        raise SpecError([Problem(file, None, None, "", f"nested more than {DEEPEST} deep, or an alias of itself")])
    if values > MOST_VALUES:
        message = f"has {values:,} values with its aliases expanded; at most {MOST_VALUES:,} are read"
        raise SpecError([Problem(file, None, None, "", message)])
    return node


def _size(node: yaml.Node, known: dict[int, float], depth: int) -> float:
    """Return how many values ``node`` has with all aliases expanded, counting each node once; infinite if too deep."""
    if depth > DEEPEST:
        return math.inf
    if id(node) not in known:
        known[id(node)] = 0.0  # inside itself: reported with its line when the marks are collected
        parts = node.value if _is_list(node) else []
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        known[id(node)] = 1 + sum(_size(part, known, depth + 1) for part in parts)
    return known[id(node)]


def _read(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise SpecError([Problem(str(path), None, None, "", f"is larger than {MOST_BYTES >> 20} MiB")])
        if content.count(b",") + content.count(b"\n") > 2 * MOST_VALUES:  # parsing them takes seconds
            raise SpecError([Problem(str(path), None, None, "", f"has more than {MOST_VALUES:,} values")])
        return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8").read()  # newlines of any system
    except FileNotFoundError:
        near = near_match(path.name, [p.name for p in path.parent.glob("*.y*ml")])
        message = f"no such file{near}"
    except IsADirectoryError:
        message = "is a folder; expected a YAML file"
    except UnicodeDecodeError as error:
        message = f"not YAML: byte {error.start} is not UTF-8 text"
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
    raise SpecError([Problem(str(path), None, None, "", message)])


def _reason(error: Exception, text: str) -> tuple[str, int | None, int | None]:
    """Return why ``text`` is not YAML, and the line and column if known."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        message = str(error.problem)
        if "'\\t'" in message:
            message = "a tab; indent with spaces"
        elif error.context == "expected a single document in the stream":
            message = "a second document starts here; expected one"
        elif error.context and error.context_mark and error.context_mark.line != mark.line:
            message += f" ({error.context} that starts on line {error.context_mark.line + 1})"
        return message, mark.line + 1, mark.column + 1
    if isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position]
        column = len(before) - (before.rfind("\n") + 1) + 1
        return f"the character U+{ord(text[error.position]):04X} is not allowed", before.count("\n") + 1, column
    return " ".join(str(error).split()), None, None


def _collect_marks(
    node: yaml.Node, path: Path_, document: Document, problems: list[Problem], above: tuple[yaml.Node, ...]
) -> None:
    """Fill ``document.marks``, and add problems: duplicate names, names that are not text, self-referencing aliases."""

    def problem(at: yaml.Node, where: Path_, message: str) -> None:
        dotted = ".".join(map(str, where)).removeprefix("trial.")
        problems.append(Problem(document.file, at.start_mark.line + 1, at.start_mark.column + 1, dotted, message))

    if any(node is outer for outer in above):
        problem(node, path, "refers to itself")
    elif isinstance(node, yaml.MappingNode):
        merged = [value for key, value in node.value if key.tag == _MERGE]  # <<: *defaults
        for part in [one for value in merged for one in (value.value if _is_list(value) else [value])]:
            _collect_marks(part, path, document, problems, (*above, node))
        first: dict[str, int] = {}
        for key, value in [(key, value) for key, value in node.value if key.tag != _MERGE]:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
            below, line = (*path, name), key.start_mark.line + 1
            if key.tag != "tag:yaml.org,2002:str":
                problem(key, below, "a name must be text; put it in quotes")
            elif name in first:
                problem(key, below, f"given twice; first on line {first[name]}")
            first.setdefault(name, line)
            document.marks[below] = (document.file, line, key.start_mark.column + 1)
            _collect_marks(value, below, document, problems, (*above, node))
    elif _is_list(node):
        for index, value in enumerate(node.value):
            document.marks[(*path, index)] = (document.file, value.start_mark.line + 1, value.start_mark.column + 1)
            _collect_marks(value, (*path, index), document, problems, (*above, node))


def _is_list(node: yaml.Node) -> bool:
    return isinstance(node, yaml.SequenceNode)
