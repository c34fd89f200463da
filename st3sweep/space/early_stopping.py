"""Settings of early stopping: the rule, and the rungs at which it judges trials."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from st3sweep.trial.fields import Frozen, fail

Rung = Annotated[float, Field(gt=0, le=1)]


class EarlyStoppingConfig(Frozen):
    """Early stopping at rungs; the rules are in ``early_stopping/rules.py``.

    At a rung the best ``1 / reduction_factor`` of the trials, at least one, continue. ``rungs`` are fractions of the
    sparsity ramp, or of training for methods without a ramp and for asha; after the ramp a rung follows every ``every``
    of training. No trial is stopped at a rung that fewer than ``min_trials`` have reached.
    """

    name: Literal["none", "ramp_pareto", "residual", "asha"] = "none"
    reduction_factor: float = Field(2.0, gt=1)
    rungs: tuple[Rung, ...] = Field((0.25, 0.6), min_length=1)
    every: float = Field(0.1, gt=0, le=1)
    min_trials: int = Field(8, ge=1)

    @field_validator("rungs")
    @classmethod
    def _rising(cls, rungs: tuple[float, ...]) -> tuple[float, ...]:
        if any(first >= second for first, second in pairwise(rungs)):
            raise ValueError("must rise")
        return rungs

    @model_validator(mode="after")
    def _used(self) -> EarlyStoppingConfig:
        idle = {"none": ("reduction_factor", "rungs", "every", "min_trials"), "asha": ("every",)}.get(self.name, ())
        for field in idle:
            if field in self.model_fields_set:
                raise fail(f"early_stopping.{field}", f"has no effect with early_stopping {self.name}")
        return self
