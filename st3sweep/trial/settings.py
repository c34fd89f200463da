"""``TrialSettings``: all settings of a trial, the rules between them, and their digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from st3sweep.trial.data import DataConfig, OnDiskConfig
from st3sweep.trial.fields import Epochs, Frozen, fail, fraction
from st3sweep.trial.model import ModelConfig
from st3sweep.trial.optim import Optim, StepSchedule, Train
from st3sweep.trial.registry import Registered, depends_on_registry
from st3sweep.trial.schedules import WEIGHT_DECAY_BY_TARGET
from st3sweep.trial.sparsity import GflopsBudget, MethodConfig

SEEDS = 2**31  # seeds are below this number


class TrialSettings(Frozen):
    """Settings of one training. ``recipe`` only names the source of the defaults (see ``recipes.resolve``)."""

    model_config = ConfigDict(defer_build=True)  # until the models, datasets and methods are registered

    recipe: Literal["paper", "authors"] = "paper"
    seed: int = Field(0, ge=0, lt=SEEDS)
    model: ModelConfig
    data: DataConfig
    train: Train
    optim: Optim
    sparsity: MethodConfig
    gflops: GflopsBudget | None = None  # excludes sparsity.target

    @model_validator(mode="after")
    def _rules_between_fields(self) -> TrialSettings:
        self._check_images()
        self._check_times()
        if self.gflops is not None and not self.sparsity.takes_gflops_budget:
            raise fail("gflops.target", f"has no effect with method {self.sparsity.method}", "sparsity.method")
        if self.optim.weight_decay.kind == "with_sparsity" and self.sparsity.constant_sparsity:
            message = f"with_sparsity has no effect with method {self.sparsity.method}, whose sparsity is constant"
            raise fail("optim.weight_decay.kind", message, "sparsity.method")
        if self.model.weights is not None and self.sparsity.fresh_start:
            message = f"has no effect with method {self.sparsity.method}, {self.sparsity.fresh_start}"
            raise fail("model.weights", message, "sparsity.method")
        if self.model.loss is not None and self.train.label_smoothing:
            message = f"has no effect with model {self.model.label}, which has a loss of its own"
            raise fail("train.label_smoothing", message, "model.arch")
        self.sparsity.check(self)
        self._check_optim()
        return self

    def _check_images(self) -> None:
        model, data = self.model, self.data
        if model.three_channels_only and data.channels != 3:
            message = f"{model.label} takes images of 3 channels; {data.dataset} has {data.channels}"
            raise fail("model.arch", message, "data.dataset")
        if needed := model.needed_images(data.image_size):
            message = f"{model.label} {needed}; these have {data.image_size}"
            raise fail("model.arch", message, "data.image_size", "data.dataset")

    def _check_times(self) -> None:
        epochs = self.train.epochs
        for path, time in _times_in_epochs(self, ""):
            if time.epochs > epochs:
                message = f"{time.epochs:g} epochs is past the end of training (train.epochs is {epochs})"
                raise fail(path, message, "train.epochs")

    def _check_optim(self) -> None:
        epochs, schedule = self.train.epochs, self.optim.schedule
        if isinstance(schedule, StepSchedule):
            times = [fraction(time, epochs) for time in schedule.milestones]
            if times != sorted(set(times)):
                message = f"must rise (got {', '.join(f'{time:g}' for time in times)} of training)"
                raise fail("optim.schedule.milestones", message, "train.epochs")
        if fraction(schedule.warmup, epochs) >= 1:
            raise fail("optim.schedule.warmup", "must end before training does")
        if self.optim.weight_decay.kind == "by_target" and self.model.label not in WEIGHT_DECAY_BY_TARGET:
            named = ", ".join(sorted(WEIGHT_DECAY_BY_TARGET))
            message = f"by_target has no row for {self.model.label}; the table names {named}"
            raise fail("optim.weight_decay.kind", message, "model")
        if self.train.finetune_lr is not None and self.train.finetune_epochs == 0:
            message = "has no effect while train.finetune_epochs is 0"
            raise fail("train.finetune_lr", message, "train.finetune_epochs")

    def identity(self) -> str:
        """Return digest and seed, which are equal for trials with the same results on the same data."""
        return f"{self.digest()} {self.seed}"

    @property
    def total_epochs(self) -> int:
        """Return the epochs of training and fine-tuning together."""
        return self.train.epochs + self.train.finetune_epochs

    def ramp_progress(self, progress: float) -> float | None:
        """Return ``MethodConfig.ramp_progress`` of this trial's method."""
        return self.sparsity.ramp_progress(progress, self.train.epochs)

    def digest(self) -> str:
        """Return twelve hex digits that identify the resolved trial without seed and paths: replicates share it."""
        fields = self.model_dump(mode="json", exclude_none=True)
        for apart in ("recipe", "seed"):
            fields.pop(apart)
        if isinstance(self.data, OnDiskConfig) and self.data.decoding > 1:
            fields["data"]["decoding"] = self.data.decoding
        packed = fields["data"].pop("pack", None) is not None
        if packed and isinstance(self.data, OnDiskConfig) and self.data.photographs:
            fields["data"]["packed"] = True  # crops from a pack are not those from the photographs
        if fields["data"].get("decoder") == "pillow":  # trials of versions without the setting are the same
            fields["data"].pop("decoder")
        for path in ("root", "download"):
            fields["data"].pop(path, None)
        del fields["train"]["deterministic"], fields["train"]["graph"]  # how the same numbers are computed
        if self.train.precision == "auto":  # a matter of the device
            fields["train"]["precision"] = "fp32"
        fields["model"] = self.model.content()
        for part, config in (("model", self.model), ("data", self.data), ("sparsity", self.sparsity)):
            if config.code:
                fields[part]["code"] = config.code
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:12]


depends_on_registry(TrialSettings)


def unregistered(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (key, name) of each model, dataset and method in stored ``settings`` that is not registered."""
    kinds: dict[str, type[Registered]] = {"sparsity": MethodConfig, "model": ModelConfig, "data": DataConfig}
    names = [(kind, settings.get(part, {}).get(kind.key)) for part, kind in kinds.items()]
    return [(kind.key, name) for kind, name in names if isinstance(name, str) and name not in kind.registered]


def _times_in_epochs(node: Any, path: str) -> Iterator[tuple[str, Epochs]]:
    """Yield every time below ``node`` that is given in epochs, with its dotted path."""
    if isinstance(node, Epochs):
        yield path, node
    elif isinstance(node, BaseModel):
        for name in type(node).model_fields:
            yield from _times_in_epochs(getattr(node, name), f"{path}.{name}" if path else name)
    elif isinstance(node, tuple):
        for index, one in enumerate(node):
            yield from _times_in_epochs(one, f"{path}.{index}")
