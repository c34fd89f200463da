"""From pydantic's errors to lines that a person can act on: where in the file, what was found, what is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from st3sweep.errors import Problem, near_match
from st3sweep.space import SweepSpec
from st3sweep.spec import all_paths
from st3sweep.yaml_file import Document


def problems_of(error: ValidationError, document: Document, prefix: tuple[str, ...]) -> list[Problem]:
    """Pydantic's errors as problems of the file; ``prefix`` is where in the file the validated part stands."""
    problems: dict[tuple[Any, ...], Problem] = {}
    for item in error.errors():
        context = item.get("ctx", {})
        if item["type"] == "rule":
            path: tuple[str | int, ...] = tuple(context["field"].split("."))
            message = item["msg"]
        else:
            path = _path_in_data(item["loc"], document, prefix)
            message = _message(item, path, prefix)
        problem = document.problem((*prefix, *path), message)
        # The trial part is written without its first word: that is how --set and search name its fields.
        field = ".".join(map(str, path))
        problems.setdefault(
            (path, message), Problem(problem.where, problem.line, problem.column, field, problem.message)
        )
    return list(problems.values())


def _path_in_data(location: tuple[str | int, ...], document: Document, prefix: tuple[str, ...]) -> tuple[Any, ...]:
    """Pydantic's location without the tags of unions, which are no keys of the file."""
    here: Any = document.data
    for key in prefix:
        here = _step(here, key)
    path: list[str | int] = []
    for index, part in enumerate(location):
        below = _step(here, part)
        is_last = index == len(location) - 1
        if below is _NOWHERE and not (is_last and isinstance(here, Mapping) and str(part).isidentifier()):
            continue  # a tag
        here = below
        path.append(part)
    return tuple(path)


_NOWHERE = object()


def _step(node: Any, key: str | int) -> Any:
    """One level down, or _NOWHERE."""
    if isinstance(node, Mapping):
        return node.get(key, _NOWHERE)
    if isinstance(node, list) and isinstance(key, int) and key < len(node):
        return node[key]
    return _NOWHERE


_PLAIN = {
    "missing": "is missing",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "dict_type": "must be a mapping of names to values",
    "model_type": "must be a mapping of names to values",
    "model_attributes_type": "must be a mapping of names to values",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
}


def _message(item: Any, path: tuple[Any, ...], prefix: tuple[str, ...]) -> str:
    kind, context = item["type"], item.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown field{_near_field(path, prefix)}"
    if kind == "union_tag_not_found":
        return f"needs {context['discriminator']}: which kind it is"
    if kind == "union_tag_invalid":
        allowed = context["expected_tags"].replace("'", "")
        near = near_match(str(context["tag"]), allowed.split(", "))
        return f"{context['discriminator']} is {context['tag']!r}, allowed: {allowed}{near}"
    if kind == "literal_error":
        allowed = context["expected"].replace("'", "").replace(" or ", ", ")
        return f"is {item['input']!r}, allowed: {allowed}{near_match(str(item['input']), allowed.split(', '))}"
    if kind == "too_short":
        return "is empty: give at least one"
    message = _PLAIN.get(kind) or item["msg"].removeprefix("Value error, ").replace("Input should", "must")
    return message if kind == "missing" or not _is_short(item["input"]) else f"{message} (got {item['input']!r})"


def _is_short(value: Any) -> bool:
    return isinstance(value, str | int | float | bool | None.__class__) and len(repr(value)) < 60


def _near_field(path: tuple[Any, ...], prefix: tuple[str, ...]) -> str:
    dotted = ".".join(map(str, path))
    if prefix or path[0] not in {f.alias or n for n, f in SweepSpec.model_fields.items()}:
        known = all_paths() if prefix or len(path) > 1 else [f.alias or n for n, f in SweepSpec.model_fields.items()]
        return near_match(dotted, [*known, *(all_paths() if not prefix and len(path) == 1 else [])])
    return near_match(dotted, top_paths()) or near_match(str(path[-1]), ["float", "int", "choice", "when", "scale"])


def top_paths() -> list[str]:
    """Dotted paths of the parts of a space other than the trial."""
    paths = ["schema", "name", "seed", "constraints", "objectives"]
    for name in ("searcher", "budget", "resources"):
        model = SweepSpec.model_fields[name].annotation
        paths += [name, *(f"{name}.{field}" for field in model.model_fields)]  # type: ignore[union-attr]
    return paths
