"""The JSON Schema of a search space, so that an editor completes and checks its fields."""

from __future__ import annotations

from typing import Any

from st3sweep.space.search_checks import searchable_paths
from st3sweep.space.space import SpaceConfig
from st3sweep.trial.settings import TrialSettings


def space_schema() -> dict[str, Any]:
    """The schema of ``SpaceConfig``, with that of a partial trial for ``trial`` and the names that ``search`` takes."""
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
    """The schema with nothing required: a trial part may leave out whatever its recipe gives or its search finds.

    Without the field that tells them apart several members of a union may fit, so one of them must become any of them.
    """
    if isinstance(schema, list):
        return [_partial(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    left = {key: _partial(part) for key, part in schema.items() if key not in ("required", "discriminator")}
    if "oneOf" in left:
        left["anyOf"] = left.pop("oneOf")
    return left
