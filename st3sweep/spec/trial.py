"""``TrialSpec``: the parts together, the rules between them, and the digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Literal

from pydantic import Field, model_validator

from st3sweep.schedules import WEIGHT_DECAY_BY_TARGET, last_update, ramp
from st3sweep.spec.data import DataSpec, Digits, ImageFolder
from st3sweep.spec.fields import Epochs, Frozen, fail, fraction
from st3sweep.spec.model import ModelSpec
from st3sweep.spec.optim import Optim, StepSchedule, Train
from st3sweep.spec.sparsity import (
    DNW,
    GMP,
    ST3,
    STR,
    Dense,
    Gflops,
    GraNet,
    ProbMask,
    RigL,
    SparsitySpec,
    Static,
)

SEEDS = 2**31  # how many there are


class TrialSpec(Frozen):
    """One training run. ``recipe`` only names where the defaults came from (see ``recipes.resolve``)."""

    recipe: Literal["paper", "authors"] = "paper"
    seed: int = Field(0, ge=0, lt=SEEDS)
    model: ModelSpec
    data: DataSpec
    train: Train
    optim: Optim
    sparsity: SparsitySpec
    gflops: Gflops | None = None  # excludes sparsity.target

    @model_validator(mode="after")
    def _rules_between_fields(self) -> TrialSpec:
        self._network_takes_the_images()
        epochs = self.train.epochs
        for path, time in self._times():
            if isinstance(time, Epochs) and time.epochs > epochs:
                message = f"{time.epochs:g} epochs is past the end of training (train.epochs is {epochs})"
                raise fail(path, message, "train.epochs")
        self._one_target()
        if isinstance(self.sparsity, STR):
            self._one_start(self.sparsity)
        if isinstance(self.sparsity, ST3):
            self._powers_of_the_family(self.sparsity)
        self._updates_of_a_mask()
        if (ramp := getattr(self.sparsity, "ramp", None)) is not None:
            start, end = fraction(ramp.start, epochs), fraction(ramp.end, epochs)
            if start >= end:
                message = f"must start before it ends (start {start:g}, end {end:g} of training)"
                raise fail("sparsity.ramp", message, "train.epochs")
        if isinstance(self.optim.schedule, StepSchedule):
            times = [fraction(time, epochs) for time in self.optim.schedule.milestones]
            if times != sorted(set(times)):
                message = f"must rise (got {', '.join(f'{time:g}' for time in times)} of training)"
                raise fail("optim.schedule.milestones", message, "train.epochs")
        if fraction(self.optim.schedule.warmup, epochs) >= 1:
            raise fail("optim.schedule.warmup", "must end before training does")
        if self.optim.weight_decay.kind == "by_target" and self.model.name not in WEIGHT_DECAY_BY_TARGET:
            named = ", ".join(sorted(WEIGHT_DECAY_BY_TARGET))
            message = f"by_target has no row for {self.model.name}; the table names {named}"
            raise fail("optim.weight_decay.kind", message, "model")
        if self.train.finetune_lr is not None and self.train.finetune_epochs == 0:
            message = "has no effect while train.finetune_epochs is 0"
            raise fail("train.finetune_lr", message, "train.finetune_epochs")
        if isinstance(self.sparsity, Dense) and self.optim.weight_decay.kind in ("with_sparsity", "by_target"):
            message = f"{self.optim.weight_decay.kind} has no effect with method dense"
            raise fail("optim.weight_decay.kind", message, "sparsity.method")
        self._decay_fits_the_method()
        if isinstance(self.sparsity, ProbMask) and self.train.compile:
            message = "is not for method probmask: the passes of one step would share what a CUDA graph writes to"
            raise fail("train.compile", message, "sparsity.method")
        return self

    def _decay_fits_the_method(self) -> None:
        kind, sparsity = self.optim.weight_decay.kind, self.sparsity
        if isinstance(sparsity, STR) and kind == "with_sparsity":
            message = "with_sparsity needs a sparsity that is set; with method str the decay itself drives it"
            raise fail("optim.weight_decay.kind", message, "sparsity.method")
        if isinstance(sparsity, STR) and kind == "by_target" and sparsity.target is None:
            message = "by_target goes by sparsity.target, which s_init leaves open"
            raise fail("optim.weight_decay.kind", message, "sparsity.s_init")

    @staticmethod
    def _one_start(sparsity: STR) -> None:
        if sparsity.s_init is None and sparsity.target is None:
            raise fail("sparsity.s_init", "is missing (or sparsity.target in its place)")
        if sparsity.s_init is not None and sparsity.target is not None:
            raise fail("sparsity.s_init", "excludes sparsity.target: give one of them", "sparsity.target")
        if sparsity.s_init is not None and sparsity.calibrate is not None:
            raise fail("sparsity.calibrate", "has no effect with s_init; it finds s_init for sparsity.target")
        if sparsity.calibrate is not None and fraction(sparsity.calibrate.pilot, 1) == 0:
            raise fail("sparsity.calibrate.pilot", "must be above 0")

    def _one_target(self) -> None:
        if not isinstance(self.sparsity, ST3):
            if self.gflops is not None:
                raise fail("gflops.target", f"has no effect with method {self.sparsity.method}", "sparsity.method")
        elif self.sparsity.target is None and self.gflops is None:
            raise fail("sparsity.target", "is missing (or gflops.target in its place)")
        elif self.sparsity.target is not None and self.gflops is not None:
            raise fail("gflops.target", "excludes sparsity.target: give one of them", "sparsity.target")
        elif self.gflops is not None and self.sparsity.criterion == "lamp":
            raise fail("gflops.target", "does not go with criterion lamp, which counts weights", "sparsity.criterion")
        elif self.gflops is not None and self.optim.weight_decay.kind == "by_target":
            message = "by_target goes by sparsity.target, which a budget in gflops leaves open"
            raise fail("optim.weight_decay.kind", message, "gflops.target")

    def _updates_of_a_mask(self) -> None:
        sparsity, epochs = self.sparsity, self.train.epochs
        if isinstance(sparsity, GMP) and sparsity.criterion == "lamp" and sparsity.allocation == "uniform":
            raise fail("sparsity.criterion", "lamp has no effect with allocation uniform", "sparsity.allocation")
        if isinstance(sparsity, Static | RigL | DNW) and self.optim.weight_decay.kind == "with_sparsity":
            message = f"with_sparsity has no effect with method {sparsity.method}, whose sparsity is constant"
            raise fail("optim.weight_decay.kind", message, "sparsity.method")
        if not isinstance(sparsity, GMP | RigL | GraNet):
            return
        interval = fraction(sparsity.interval, epochs)
        if interval == 0:
            raise fail("sparsity.interval", "must be above 0")
        if isinstance(sparsity, RigL) and interval >= (stop := fraction(sparsity.stop, epochs)):
            message = f"must be below sparsity.stop, or no update happens (interval {interval:g}, stop {stop:g})"
            raise fail("sparsity.interval", message, "sparsity.stop", "train.epochs")

    @staticmethod
    def _powers_of_the_family(sparsity: ST3) -> None:
        for name in ("shape_power", "mac_power"):
            given = getattr(sparsity, name) is not None
            if given and sparsity.criterion != "family":
                raise fail(
                    f"sparsity.{name}", f"has no effect with criterion {sparsity.criterion}", "sparsity.criterion"
                )
            if not given and sparsity.criterion == "family":
                raise fail(f"sparsity.{name}", "is missing with criterion family", "sparsity.criterion")

    def _network_takes_the_images(self) -> None:
        size = self.data.image_size
        if self.model.colour_only and isinstance(self.data, Digits):
            raise fail("model.arch", f"{self.model.name} takes images of 3 channels; digits has 1", "data.dataset")
        if size < self.model.smallest_image:
            message = (
                f"{self.model.name} needs images of at least {self.model.smallest_image} pixels; these have {size}"
            )
            raise fail("model.arch", message, "data.image_size", "data.dataset")

    def _times(self) -> Iterator[tuple[str, float | Epochs]]:
        yield "optim.schedule.warmup", self.optim.schedule.warmup
        if isinstance(self.optim.schedule, StepSchedule):
            for index, milestone in enumerate(self.optim.schedule.milestones):
                yield f"optim.schedule.milestones.{index}", milestone
        if (shape := getattr(self.sparsity, "ramp", None)) is not None:
            yield "sparsity.ramp.start", shape.start
            yield "sparsity.ramp.end", shape.end
        if isinstance(self.sparsity, GMP | RigL | GraNet):
            yield "sparsity.interval", self.sparsity.interval
        if isinstance(self.sparsity, RigL):
            yield "sparsity.stop", self.sparsity.stop
        if isinstance(self.sparsity, STR) and self.sparsity.calibrate is not None:
            yield "sparsity.calibrate.pilot", self.sparsity.calibrate.pilot

    def ramp_progress(self, progress: float) -> float | None:
        """The part of the way to its target that the ramp asks for at ``progress`` of training; None without a ramp.

        The way begins at the sparsity from before the ramp: 0, but for GraNet. A mask that is updated at intervals is
        asked at the last of them.
        """
        sparsity, epochs = self.sparsity, self.train.epochs
        shape = getattr(sparsity, "ramp", None)
        if shape is None or (isinstance(sparsity, GraNet) and sparsity.target <= 1 - sparsity.initial_density):
            return None
        start, end = fraction(shape.start, epochs), fraction(shape.end, epochs)
        if isinstance(sparsity, GMP | GraNet):
            progress = last_update(progress, start, end, fraction(sparsity.interval, epochs))
        return ramp(progress, start, end, shape.power)

    def digest(self) -> str:
        """Twelve hex digits that name the resolved trial, seed and paths apart: replicates share it."""
        fields = self.model_dump(mode="json", exclude_none=True)
        for apart in ("recipe", "seed"):
            fields.pop(apart)
        packed = fields["data"].pop("pack", None) is not None
        if packed and isinstance(self.data, ImageFolder):  # crops from a pack are not those from the photographs
            fields["data"]["packed"] = True
        for path in ("root", "download"):
            fields["data"].pop(path, None)
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:12]
