"""YAML with a memory: the parsed data, and the line and column where each key and value stood."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from st3sweep.errors import Problem, SpecError

Path_ = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads ``1e-4`` as a number, as YAML 1.2 does; PyYAML wants ``1.0e-4``."""


_Loader.yaml_implicit_resolvers = {
    key: list(resolvers) for key, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


@dataclass
class Document:
    """``data`` as parsed; ``marks`` maps a path of keys and indices to (where, line, column)."""

    file: str
    data: dict[str, Any]
    marks: dict[Path_, tuple[str, int | None, int | None]] = field(default_factory=dict)

    def problem(self, path: Path_, message: str) -> Problem:
        """A Problem at ``path``, or at the nearest enclosing key that stands in the file."""
        known = path
        while known and known not in self.marks:
            known = known[:-1]
        where, line, column = self.marks.get(known, (self.file, 1, 1))
        return Problem(where, line, column, ".".join(str(part) for part in path), message)

    def set(self, dotted: str, text: str) -> None:
        """Apply one ``--set path=value``; the value is YAML."""
        keys = dotted.split(".")
        where = f"--set {dotted}={text}"
        if not all(keys):
            raise SpecError([Problem(where, None, None, dotted, "an empty name in the path")])
        try:
            value = yaml.load(text, Loader=_Loader)
        except yaml.YAMLError as error:
            raise SpecError([Problem(where, None, None, dotted, f"the value is not YAML: {error}")]) from None
        here = self.data
        for key in keys[:-1]:
            if not isinstance(here.get(key), dict):
                here[key] = {}
            here = here[key]
        here[keys[-1]] = value
        self.marks[tuple(keys)] = (where, None, None)


def read_yaml(path: Path | str) -> Document:
    """Parse a YAML file whose top level is a mapping. Raises SpecError for anything else."""
    file = str(path)

    def fail(message: str, mark: yaml.Mark | None = None) -> SpecError:
        line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
        return SpecError([Problem(file, line, column, "", message)])

    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise fail("no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise fail(f"cannot be read as text: {error}") from None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        data = loader.construct_document(node) if node is not None else None
    except yaml.MarkedYAMLError as error:
        raise fail(f"not YAML: {error.problem}", error.problem_mark) from None
    except yaml.YAMLError as error:
        raise fail(f"not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        found = "nothing" if data is None else type(data).__name__
        raise fail(f"expected a mapping of names to values at the top, found {found}")
    document = Document(file, data)
    problems: list[Problem] = []
    assert node is not None
    _collect_marks(node, (), document, problems)
    if problems:
        raise SpecError(problems)
    return document


def _collect_marks(node: yaml.Node, path: Path_, document: Document, problems: list[Problem]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            below = (*path, str(key.value))
            if below in document.marks:
                first = document.marks[below][1]
                problems.append(
                    Problem(
                        document.file,
                        key.start_mark.line + 1,
                        key.start_mark.column + 1,
                        ".".join(map(str, below)),
                        f"given twice; first on line {first}",
                    )
                )
            document.marks[below] = (document.file, key.start_mark.line + 1, key.start_mark.column + 1)
            _collect_marks(value, below, document, problems)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            document.marks[(*path, index)] = (document.file, value.start_mark.line + 1, value.start_mark.column + 1)
            _collect_marks(value, (*path, index), document, problems)
