"""The search space as its YAML file has it: ``SpaceConfig`` and its parts, with the rules between their fields."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_core import PydanticKnownError

from st3sweep.space.distributions import Distribution
from st3sweep.space.early_stopping import EarlyStoppingConfig
from st3sweep.space.measuring import LATENCY, SIZE, MeasureConfig
from st3sweep.space.resources import Budget, Replicates, Resources
from st3sweep.trial.fields import Frozen, fail

OLD_KEYS = {"scheduler": "early_stopping"}  # keys of a space before 0.2 → now
METRICS = ("val_top1", "val_loss", "gflops", LATENCY, SIZE, "sparsity", "wall_seconds")


def _metric_name(value: Any) -> str:
    """Return the name of a built-in metric or of the form of a model's own. Raises pydantic's error for others."""
    if value not in METRICS and not (isinstance(value, str) and value.startswith("val_")):
        raise PydanticKnownError("literal_error", {"expected": " or ".join(map(repr, METRICS))})
    return str(value)


class Objective(Frozen):
    """An objective of the search: a column of the results and its goal. Test accuracy cannot be one.

    ``metric`` may be ``val_<name>`` of the model's own metric (``register_model``).
    """

    metric: Annotated[
        str,
        BeforeValidator(_metric_name),
        Field(json_schema_extra={"anyOf": [{"enum": METRICS}, {"pattern": "^val_"}]}),
    ]
    goal: Literal["max", "min"]


class SearcherConfig(Frozen):
    """Settings of the sampler: one of Optuna's (tpe, gp, nsga2, random), a Sobol' sequence (qmc) or a grid.

    TPE and the Gaussian process start after ``startup_trials`` random trials; NSGA-II has a ``population``.
    """

    sampler: Literal["tpe", "gp", "nsga2", "random", "qmc", "grid"] = "tpe"
    startup_trials: int | None = Field(None, ge=1)
    population: int | None = Field(None, ge=2)

    @model_validator(mode="after")
    def _used(self) -> SearcherConfig:
        if self.startup_trials is not None and self.sampler not in ("tpe", "gp"):
            raise fail("searcher.startup_trials", f"has no effect with sampler {self.sampler}")
        if self.population is not None and self.sampler != "nsga2":
            raise fail("searcher.population", f"has no effect with sampler {self.sampler}")
        return self


class WarmStart(Frozen):
    """Warm start: points to try first, and the folders of earlier runs.

    A trial that an earlier run finished is not run again; the front of each earlier run is tried first.
    """

    points: list[dict[str, Any]] = []
    from_: list[str] = Field([], alias="from")

    @model_validator(mode="after")
    def _something(self) -> WarmStart:
        if not self.points and not self.from_:
            raise fail("warm_start", "has no effect without points and from")
        return self


class SpaceConfig(Frozen):
    """A search space as written in its YAML file."""

    schema_: Literal["st3sweep/v1"] = Field(alias="schema")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    seed: int = Field(0, ge=0, lt=2**31)  # of the search, and of every trial without a fixed or searched seed
    trial: dict[str, Any]
    search: dict[str, Distribution] = Field(min_length=1)
    constraints: list[str] = []
    objectives: list[Objective] = Field(
        default=[Objective(metric="val_top1", goal="max"), Objective(metric="gflops", goal="min")], min_length=1
    )
    searcher: SearcherConfig = SearcherConfig()
    early_stopping: EarlyStoppingConfig = EarlyStoppingConfig()
    warm_start: WarmStart | None = None
    budget: Budget = Budget()
    replicates: Replicates | None = None
    measure: MeasureConfig = MeasureConfig()
    resources: Resources = Resources()

    @field_validator("objectives")
    @classmethod
    def _each_metric_once(cls, objectives: list[Objective]) -> list[Objective]:
        metrics = [objective.metric for objective in objectives]
        twice = next((metric for index, metric in enumerate(metrics) if metric in metrics[:index]), None)
        if twice:
            raise ValueError(f"contains {twice} twice")
        return objectives

    @model_validator(mode="after")
    def _settings_that_act(self) -> SpaceConfig:
        if self.searcher.sampler == "grid" and self.warm_start and self.warm_start.points:
            raise fail("warm_start.points", "has no effect with sampler grid, which runs every point")
        points, trials = len(self.warm_start.points) if self.warm_start else 0, self.budget.trials
        if trials is not None and points > trials:
            raise fail("warm_start.points", f"has {points} points, but budget.trials is {trials}", "budget.trials")
        if self.budget.gpu_hours is not None and not self.resources.gpus:
            raise fail("budget.gpu_hours", "has no effect: resources.gpus_per_worker is 0")
        fixed = self.trial.get("train")
        if isinstance(fixed, dict) and fixed.get("graph") == "on" and not self.resources.gpus:
            raise fail("trial.train.graph", "on needs a GPU, but resources.gpus_per_worker is 0: use auto or off")
        for field, metric in (("latency", LATENCY), ("size", SIZE)):
            off = field in self.measure.model_fields_set and not getattr(self.measure, field)
            if off and metric in self.objective_names():
                raise fail(f"measure.{field}", f"is false, but {metric} is an objective")
        data = self.trial.get("data")
        if isinstance(data, dict) and data.get("decoder") == "nvjpeg" and not self.resources.gpus:
            raise fail("trial.data.decoder", "nvjpeg needs a GPU, but resources.gpus_per_worker is 0: use pillow")
        if self.replicates and self.replicates.share is not None and not self.budget.limits():
            raise fail("replicates.share", "has no effect: budget has none of wall, gpu_hours and money")
        if self.replicates and self.objective_names()[:2] != ["val_top1", "gflops"]:
            raise fail("replicates", "needs the objectives val_top1 and gflops, in this order")
        if self.early_stopping.name != "none" and set(self.goals()) != {("val_top1", "max"), ("gflops", "min")}:
            raise fail("early_stopping", "needs the objectives val_top1 max and gflops min, and no other")
        return self

    @property
    def measures_latency(self) -> bool:
        return self.measure.latency or LATENCY in self.objective_names()

    @property
    def measures_size(self) -> bool:
        return self.measure.size or SIZE in self.objective_names()

    def objective_names(self) -> list[str]:
        """Return the metrics of the objectives."""
        return [objective.metric for objective in self.objectives]

    def goals(self) -> list[tuple[str, Literal["max", "min"]]]:
        """Return the objectives as (metric, goal) pairs."""
        return [(objective.metric, objective.goal) for objective in self.objectives]
