"""Translate pydantic's errors into messages for users: where in the file, what was found, what is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from st3sweep.space.config import OLD_KEYS, SpaceConfig
from st3sweep.trial.paths import all_paths
from st3sweep.trial.registry import members_of
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.errors import Problem, near_match, near_path, shown
from st3sweep.util.yaml_lines import Document, Path_


def problems_of(error: ValidationError, document: Document, prefix: tuple[str, ...], root: Any) -> list[Problem]:
    """Translate pydantic's errors on model ``root``, at ``prefix`` in the file, into one problem a field."""
    items = error.errors()
    wrong_inside = {item["loc"][:depth] for item in items for depth in range(len(item["loc"]))}
    messages: dict[Path_, list[str]] = {}  # several where each member of a union refused the value
    values: dict[Path_, str] = {}
    also: dict[Path_, tuple[str, ...]] = {}
    for item in items:
        if item["type"] == "too_short" and item["loc"] in wrong_inside:
            continue  # it counts only the valid elements; the others have errors themselves
        if item["type"] == "rule":
            path: Path_ = tuple(int(key) if key.isdigit() else key for key in item["ctx"]["field"].split("."))
            message, also[path] = item["msg"], item["ctx"]["also"]
        else:
            path, message = _explain(item, root)
            values[path] = _got(item)
        if message not in messages.setdefault(path, []):
            messages[path].append(message)
    meant = {text.rpartition("did you mean ")[2].rstrip("?") for texts in messages.values() for text in texts}
    problems = []
    for path, texts in messages.items():
        # Fields of the trial are named without "trial.", as in --set and search.
        field = ".".join(map(str, path))
        if field in meant and texts[0].startswith("is missing"):
            continue  # present, but misspelt
        at = document.problem((*prefix, *path), _either(texts) + values.get(path, ""))
        problems.append(Problem(at.where, at.line, at.column, field, at.message, also.get(path, ())))
    return problems


def _either(messages: list[str]) -> str:
    """Join the messages of the members of a union that refused one value."""
    if len(messages) > 2:
        return "must be a single value: text, a number, true, false or null"
    if "must be a number" in messages:
        return "must be a number"
    return ", or ".join([messages[0], *(other.removeprefix("must be ") for other in messages[1:])])


def explain(error: ValidationError) -> str:
    """Return why a single value was refused, without the value."""
    return _either(list(dict.fromkeys(_explain(item, None)[1] for item in error.errors())))


def _path(item: Any, root: Any) -> tuple[Path_, str | None]:
    """Return pydantic's location as a path in the file, without the tags of unions; and the last of those tags."""
    location, path, tag = item["loc"], [], None
    models = [root] if root else []
    for index, part in enumerate(location):
        in_search = root is SpaceConfig and location[0] == "search"
        fields = [info for model in models for name, info in model.model_fields.items() if _written(name, info) == part]
        unknown = item["type"] == "extra_forbidden" and index == len(location) - 1
        if in_search and index == 1:  # a searched path is a plain key; the models are those of its distribution
            path.append(part)
        elif isinstance(part, int) or unknown or (fields and not (in_search and index == 2)):
            path.append(part)
            models = models if isinstance(part, int) else [m for info in fields for m in members_of(info.annotation)]
        else:
            tag = part
    return tuple(path), tag


_PLAIN = {
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "none_required": "must be null",
    "dict_type": "must be a mapping of names to values",
    "model_type": "must be a mapping of names to values",
    "model_attributes_type": "must be a mapping of names to values",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "string_pattern_mismatch": "must be letters, digits, dots, dashes and underscores, a letter or digit first",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "is empty: give at least one",
    "too_long": "must be two numbers: [low, high]",  # only ranges limit the length of a list
}


def _explain(item: Any, root: Any) -> tuple[Path_, str]:
    """Return the path of the wrong field, and the message."""
    kind, context = item["type"], item.get("ctx", {})
    path, tag = _path(item, root)
    if kind == "extra_forbidden":
        return path, _unknown(path, tag, root)
    if kind == "missing":
        if isinstance(path and path[-1], int):
            return path[:-1], _PLAIN["too_long"]
        return path, "is missing" + _to_choose_from(path, root)
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        below = (*path, context["discriminator"].strip("'"))
        if kind == "union_tag_not_found":
            return below, "is missing" + _to_choose_from(below, root)
        return below, _not_among(context["tag"], context["expected_tags"].replace("'", "").split(", "))
    if kind == "truth":
        return (*path, context["name"]), item["msg"]
    if kind == "literal_error":
        allowed = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        return path, _not_among(item["input"], allowed)
    if kind in _PLAIN:
        return path, _PLAIN[kind].format(**{name: shown(bound) for name, bound in context.items()})
    return path, item["msg"].removeprefix("Value error, ").replace("Input should", "must")


def _not_among(value: Any, allowed: list[str]) -> str:
    near = near_match(str(value), allowed) if len(allowed) > 1 else ""
    return f"is {shown(value)}, allowed: {', '.join(allowed)}{near}"


def _got(item: Any) -> str:
    """Return `` (got 3)`` if the message does not name the value already and the value is short, else ``""``."""
    if item["type"] in ("missing", "extra_forbidden", "literal_error", "too_short", "distribution"):
        return ""
    if item["type"] == "truth":
        return f" (got {shown(item['ctx']['value'])})"
    if item["type"].startswith("union_tag") or (item["type"] == "value_error" and isinstance(item["input"], Mapping)):
        return ""
    text = shown(item["input"])
    return f" (got {text})" if len(text) < 60 else ""


def _unknown(path: Path_, tag: str | None, root: Any) -> str:
    """Return the message for an unknown field at ``path``, with a suggestion."""
    name, models = str(path[-1]), _models_at(path[:-1], root)
    member = next((model for model in models if tag and tag in _tags(model)), None)
    here = [_written(field, info) for model in [member or models[0]] for field, info in model.model_fields.items()]
    if member and any(name in model.model_fields for model in models):
        discriminator = next((field for field in member.model_fields if tag in _literals(member, field)), None)
        what = f"{discriminator} {tag}" if discriminator else tag
        fields = [field for field in here if field != discriminator]
        return f"has no effect with {what}, which has {', '.join(fields) or 'no fields'}"
    top = [_written(field, info) for field, info in SpaceConfig.model_fields.items()]
    if root is SpaceConfig and len(path) == 1 and name in TrialSettings.model_fields:
        return "unknown field here; it belongs under trial"
    if root is TrialSettings and len(path) == 1 and name in (*top, *OLD_KEYS):
        return "unknown field in a trial; it belongs at the top level of a search space"
    parent = ".".join(map(str, path[:-1]))
    near = near_match(name, here).replace("mean ", f"mean {parent}." if parent else "mean ")
    elsewhere = near_path(".".join(map(str, path)), all_paths()) if root is TrialSettings else ""
    return "unknown field" + (near or elsewhere or "; allowed: " + ", ".join(here))


def _models_at(path: Path_, root: Any) -> list[type[BaseModel]]:
    """Return the models possible at ``path`` below ``root``, skipping list indices and names of searched fields."""
    models = [root]
    for index, key in enumerate(path):
        if isinstance(key, int) or (root is SpaceConfig and index == 1 and path[0] == "search"):
            continue
        infos = [info for model in models for name, info in model.model_fields.items() if _written(name, info) == key]
        models = [below for info in infos for below in members_of(info.annotation)]
    return models


def _written(name: str, info: Any) -> str:
    return info.alias or name


def _literals(model: Any, field: str) -> tuple[Any, ...]:
    info = model.model_fields.get(field)
    is_key = info is not None and (info.is_required() or field == getattr(model, "key", None))
    return get_args(info.annotation) if is_key else ()


def _tags(model: Any) -> tuple[Any, ...]:
    """Return the tags of ``model`` in a union: its discriminator's values, or the name of its one required field."""
    key = getattr(model, "key", None)
    required = [(name, info) for name, info in model.model_fields.items() if info.is_required() or name == key]
    return (*(value for name, _ in required for value in _literals(model, name)), *(_written(*one) for one in required))


def _to_choose_from(path: Path_, root: Any) -> str:
    """Return ``; allowed: ...`` for a missing field whose values are words, else ``""``."""
    if root is None or not path:
        return ""
    infos = [model.model_fields.get(str(path[-1])) for model in _models_at(path[:-1], root)]
    words = [value for info in infos if info for value in get_args(info.annotation) if isinstance(value, str)]
    return f"; allowed: {', '.join(dict.fromkeys(words))}" if words else ""


def top_paths() -> list[str]:
    """List the dotted paths of a space's fields outside ``trial`` and ``search``."""
    paths = ["schema", "name", "seed", "constraints", "objectives"]
    for name in ("searcher", "early_stopping", "warm_start", "budget", "replicates", "resources"):
        for model in members_of(SpaceConfig.model_fields[name].annotation):
            paths += [name, *(f"{name}.{_written(field, info)}" for field, info in model.model_fields.items())]
    return paths
