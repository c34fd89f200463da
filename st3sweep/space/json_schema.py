"""Generate the JSON Schema of a search space, with which an editor completes and checks fields."""

from __future__ import annotations

from typing import Any

from st3sweep.space.config import SpaceConfig
from st3sweep.space.search_checks import searchable_paths
from st3sweep.trial.settings import TrialSettings


def space_schema() -> dict[str, Any]:
    """Return the schema of ``SpaceConfig``, with that of a partial trial and the names of searchable fields."""
    space = SpaceConfig.model_json_schema(by_alias=True)
    trial = _partial(TrialSettings.model_json_schema())
    definitions = trial.pop("$defs")
    distribution = space["properties"]["search"].pop("additionalProperties")
    space["properties"]["search"] |= {
        "properties": {path: {"$ref": "#/$defs/Distribution"} for path in searchable_paths()},
        "additionalProperties": False,
    }
    space["properties"]["trial"] = trial
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **space,
        "$defs": {**space.get("$defs", {}), **definitions, "Distribution": distribution},
    }


def _partial(schema: Any) -> Any:
    """Make every field optional: ``trial`` may leave out what its recipe or search sets.

    Without its discriminator several members of a union may fit, so ``oneOf`` becomes ``anyOf``.
    """
    if isinstance(schema, list):
        return [_partial(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    left = {key: _partial(part) for key, part in schema.items() if key not in ("required", "discriminator")}
    if "oneOf" in left:
        left["anyOf"] = left.pop("oneOf")
    return left
