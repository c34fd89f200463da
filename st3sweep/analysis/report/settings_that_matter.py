"""Gather which searched settings matter for the report: for each objective, and for accuracy at equal cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from st3sweep.analysis.forests import AT_EQUAL_COST, fit_forests
from st3sweep.analysis.fronts import Objectives
from st3sweep.analysis.importance import importance
from st3sweep.analysis.plots import METRICS

_SHOWN = 8  # settings of one measure


def importance_of(trials: pd.DataFrame, objectives: Objectives) -> list[dict[str, Any]]:
    """Return a group for each measure: of, r2, trials, why_none ("" if it was computed) and its settings, best first.

    A setting has its name, importance, low, high and verdict, as in ``importance.importance``.
    """
    fits = fit_forests(trials, objectives)
    table = importance(fits)
    groups = []
    for fit in fits:
        rows = table[table["of"] == fit.of]
        settings = rows[["setting", "importance", "low", "high", "verdict"]].head(_SHOWN).to_dict("records")
        known = bool(fit.forests) and len(rows) > 0
        groups.append(
            {
                "of": _name(fit.of),
                "r2": float(rows["r2"].iloc[0]) if known else None,
                "trials": len(fit.values),
                "why_none": "" if known else fit.why_none or "no setting was searched",
                "settings": [_finite(setting) for setting in settings] if known else [],
                "more": max(0, len(rows) - _SHOWN),
            }
        )
    return groups


def importance_in_words(groups: list[dict[str, Any]]) -> str:
    """Say which settings matter at equal cost, or for the first measure; "" if that is not known."""
    of_equal = [group for group in groups if group["of"].endswith(AT_EQUAL_COST.replace("gflops", "cost"))]
    group = next(iter(of_equal or groups), None)
    if group is None or group["why_none"]:
        return ""
    names = [setting["setting"] for setting in group["settings"] if setting["verdict"] == "matters"]
    if not names:
        return f"For {group['of']}, no searched setting can be told from noise."
    verb = "matters" if len(names) == 1 else "matter"
    explained = f"the settings explain {100 * group['r2']:.0f} % of the variance of trials held out"
    return f"For {group['of']}, {', '.join(names)} {verb}; {explained}."


def _name(of: str) -> str:
    measure, equal, _ = of.partition(AT_EQUAL_COST)
    name = "cost" if measure == "gflops" else METRICS.get(measure, measure.replace("_", " ")).replace(" (%)", "")
    return f"{name} at equal cost" if equal else name


def _finite(setting: dict[Any, Any]) -> dict[str, Any]:
    return {
        str(name): None if isinstance(value, float) and not np.isfinite(value) else value
        for name, value in setting.items()
    }
