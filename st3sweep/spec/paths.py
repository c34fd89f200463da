"""Looking a field of the spec up by its dotted path."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from st3sweep.spec.trial import TrialSpec


def member_models(annotation: Any) -> list[type[BaseModel]]:
    """The models that an annotation names, unions and ``Annotated`` unwrapped."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in member_models(part)]


def fields_at(path: str, model: type[BaseModel] = TrialSpec) -> list[FieldInfo]:
    """Every field that ``path`` can mean, one per member of the unions on the way; empty if there is none."""
    head, _, rest = path.partition(".")
    found = [model.model_fields[head]] if head in model.model_fields else []
    if not rest:
        return found
    return [field for info in found for below in member_models(info.annotation) for field in fields_at(rest, below)]


def all_paths(model: type[BaseModel] = TrialSpec, prefix: str = "") -> list[str]:
    """Dotted paths of all fields below ``model``, inner nodes included."""
    paths: list[str] = []
    for name, info in model.model_fields.items():
        paths.append(prefix + name)
        for below in member_models(info.annotation):
            paths.extend(path for path in all_paths(below, f"{prefix}{name}.") if path not in paths)
    return paths
