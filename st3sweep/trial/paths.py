"""Look up fields of the settings by their dotted path."""

from __future__ import annotations

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from st3sweep.trial.registry import members_of
from st3sweep.trial.settings import TrialSettings


def fields_at(path: str, model: type[BaseModel] = TrialSettings) -> list[FieldInfo]:
    """Return every field that ``path`` can mean, one per member of the unions along it; empty if there is none."""
    head, _, rest = path.partition(".")
    found = [model.model_fields[head]] if head in model.model_fields else []
    if not rest:
        return found
    return [field for info in found for below in members_of(info.annotation) for field in fields_at(rest, below)]


def all_paths(model: type[BaseModel] = TrialSettings, prefix: str = "") -> list[str]:
    """Return the dotted paths of all fields below ``model``, inner nodes included."""
    paths: list[str] = []
    for name, info in model.model_fields.items():
        paths.append(prefix + name)
        for below in members_of(info.annotation):
            paths.extend(path for path in all_paths(below, f"{prefix}{name}.") if path not in paths)
    return paths
