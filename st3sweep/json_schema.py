"""The JSON Schema of a search space, so that an editor completes and checks its fields."""

from __future__ import annotations

from typing import Any

from st3sweep.space import SweepSpec
from st3sweep.spec import TrialSpec

# A trial part may leave out whatever its recipe gives or its search finds, but never what decides the other fields.
_ALWAYS = {"arch", "dataset", "method", "kind"}


def space_schema() -> dict[str, Any]:
    """SweepSpec's schema with that of a partial TrialSpec in the place of ``trial``."""
    space = SweepSpec.model_json_schema(by_alias=True)
    trial = TrialSpec.model_json_schema()
    definitions = trial.pop("$defs")
    for model in definitions.values():
        if "required" in model:
            model["required"] = [name for name in model["required"] if name in _ALWAYS]
    trial.pop("required")
    space["properties"]["trial"] = trial
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **space,
        "$defs": {**space.get("$defs", {}), **definitions},
    }
