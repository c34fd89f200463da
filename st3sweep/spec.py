"""``TrialSpec``: everything that decides a trial's numbers, validated once, frozen, hashed to a digest.

Field names are those of a search space's ``trial`` part. Times are fractions of training, or ``{epochs: n}``.
Defaults that belong to a published recipe are in ``recipes.py``, not here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from st3sweep.schedules import WEIGHT_DECAY_BY_TARGET


class Frozen(BaseModel):
    """A record that refuses unknown fields, non-finite numbers, truth values as numbers and later changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _true_is_not_one(cls, data: Any) -> Any:
        for name, value in data.items() if isinstance(data, dict) else ():
            if isinstance(value, bool) and name in cls.model_fields and cls.model_fields[name].annotation is not bool:
                raise PydanticCustomError("truth", "must not be true or false", {"name": name, "value": value})
        return data


def fail(field: str, message: str, *also: str) -> PydanticCustomError:
    """An error of a rule between fields: ``field``, a dotted path from the top of the spec, and ``also`` others."""
    return PydanticCustomError("rule", "{message}", {"message": message, "field": field, "also": also})


# -- times ------------------------------------------------------------------------------------------------------


class Epochs(Frozen):
    """A time given in epochs."""

    epochs: float = Field(ge=0)


def _kind_of_time(value: Any) -> str:
    return "in epochs" if isinstance(value, Epochs | dict) else "fraction"


Time = Annotated[
    Annotated[float, Field(ge=0, le=1), Tag("fraction")] | Annotated[Epochs, Tag("in epochs")],
    Discriminator(_kind_of_time),
]


def fraction(time: float | Epochs, epochs: int) -> float:
    """``time`` as a fraction of a training of ``epochs`` epochs."""
    return time.epochs / epochs if isinstance(time, Epochs) else float(time)


# -- the network ------------------------------------------------------------------------------------------------


class CifarResNet(Frozen):
    """ResNet for small images (He et al. 2016, section 4.2): depth 6n+2, ``width`` channels in the first stage."""

    arch: Literal["cifar_resnet"]
    depth: int = Field(20, ge=8)
    width: int = Field(16, ge=1)

    @field_validator("depth")
    @classmethod
    def _depth_is_6n_plus_2(cls, depth: int) -> int:
        if (depth - 2) % 6:
            lower = depth - (depth - 2) % 6
            raise ValueError(f"must be 6n+2: {lower} or {lower + 6}")
        return depth

    @property
    def name(self) -> str:
        return f"resnet{self.depth}" + ("" if self.width == 16 else f"_w{self.width}")


class MobileNetV1(Frozen):
    """MobileNetV1 (Howard et al. 2017). ``stem_stride`` 2 for 224-pixel images, 1 for 32-pixel images."""

    arch: Literal["mobilenet_v1"]
    width: float = Field(1.0, gt=0, le=4)
    stem_stride: Literal[1, 2] = 2

    @property
    def name(self) -> str:
        return "mobilenet_v1" + ("" if self.width == 1.0 else f"_w{self.width:g}")


ModelSpec = Annotated[CifarResNet | MobileNetV1, Field(discriminator="arch")]


# -- the data ---------------------------------------------------------------------------------------------------


class ShiftAndFlip(Frozen):
    """Augmentation of small images: random crop from an image padded by ``padding`` pixels, horizontal flip."""

    padding: int = Field(4, ge=0)
    fill: Literal["zero", "edge"] = "zero"
    flip: bool = True


class ShiftDigits(ShiftAndFlip):
    """The same for digits, which are small and have a left and a right."""

    padding: int = Field(1, ge=0)
    flip: bool = False


class ResizedCropAndFlip(Frozen):
    """Augmentation of photographs: a random part of area ``min_scale`` to 1, resized; horizontal flip."""

    min_scale: float = Field(0.08, gt=0, le=1)
    flip: bool = True


class _Data(Frozen):
    validation: int | Annotated[float, Field(gt=0, lt=1)] = 0.1  # images, or a fraction of the training set
    train_limit: int | None = Field(None, ge=1)  # train on the first so many images only

    @field_validator("validation")
    @classmethod
    def _some_validation(cls, value: int | float) -> int | float:
        if value <= 0:
            raise ValueError("must be at least one image")
        return value


class Digits(_Data):
    """scikit-learn's 1,797 handwritten digits, bundled: nothing to download."""

    dataset: Literal["digits"]
    validation: int | Annotated[float, Field(gt=0, lt=1)] = 300
    image_size: int = Field(16, ge=8, le=64)
    augment: ShiftDigits = ShiftDigits()


class Cifar(_Data):
    """CIFAR-10 or -100: the python batches that torchvision downloads, or image Parquet files, under ``root``."""

    dataset: Literal["cifar10", "cifar100"]
    root: str
    download: bool = False
    validation: int | Annotated[float, Field(gt=0, lt=1)] = 5000
    augment: ShiftAndFlip = ShiftAndFlip()


class ImageParquet(_Data):
    """Parquet files with columns ``img`` or ``image`` (struct with ``bytes``) and ``label``; resized to a square."""

    dataset: Literal["image_parquet"]
    root: str
    image_size: int = Field(32, ge=8, le=256)
    augment: ShiftAndFlip = ShiftAndFlip()


class ImageFolder(_Data):
    """Folders ``train/<class>/*.jpg`` and ``val/`` or ``test/``, the latter being the test set."""

    dataset: Literal["image_folder", "imagenet"]
    root: str
    image_size: int = Field(224, ge=32)
    augment: ResizedCropAndFlip = ResizedCropAndFlip()


DataSpec = Annotated[Digits | Cifar | ImageParquet | ImageFolder, Field(discriminator="dataset")]


# -- optimisation -----------------------------------------------------------------------------------------------


class StepSchedule(Frozen):
    """Learning rate times ``gamma`` at each milestone, after a linear warm-up."""

    kind: Literal["step"]
    milestones: tuple[Time, ...] = (0.5, 0.75)
    gamma: float = Field(0.1, gt=0, le=1)
    warmup: Time = 0.0


class CosineSchedule(Frozen):
    """Half a cosine to ``final_ratio`` times the learning rate, after a linear warm-up."""

    kind: Literal["cosine"]
    warmup: Time = 0.0
    final_ratio: float = Field(0.0, ge=0, le=1)


class ConstantDecay(Frozen):
    """The same weight decay throughout."""

    kind: Literal["constant"]
    value: float = Field(1e-4, ge=0)


class DecayByTarget(Frozen):
    """The ST-3 appendix's tables: weight decay by network and target sparsity."""

    kind: Literal["by_target"]


class FallingDecay(Frozen):
    """Weight decay that falls to ``value * final_ratio``, with the current sparsity or along half a cosine."""

    kind: Literal["with_sparsity", "cosine"]
    value: float = Field(1e-4, ge=0)
    final_ratio: float = Field(ge=0, le=1)


class Optim(Frozen):
    """SGD with momentum. Weight decay acts on conv and linear weights only."""

    lr: float = Field(gt=0)
    momentum: float = Field(ge=0, lt=1)
    clip_norm: float | None = Field(gt=0)  # global norm of the gradient; null: no clipping
    schedule: Annotated[StepSchedule | CosineSchedule, Field(discriminator="kind")]
    weight_decay: Annotated[ConstantDecay | DecayByTarget | FallingDecay, Field(discriminator="kind")]


class Train(Frozen):
    """Length, batches and numerics of training."""

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)  # over all workers together
    label_smoothing: float = Field(ge=0, lt=1)
    precision: Literal["fp32", "bf16"]
    bn_momentum: float = Field(gt=0, le=1)  # in PyTorch's sense: weight of the newest batch
    finetune_epochs: int = Field(ge=0)  # with fixed masks, after ``epochs``
    finetune_lr: float | None = Field(None, gt=0)  # null: a hundredth of optim.lr


# -- sparsity ---------------------------------------------------------------------------------------------------


class Ramp(Frozen):
    """When sparsity rises from 0 to its target, and how steeply."""

    start: Time
    end: Time
    power: float = Field(gt=0)


class ST3(Frozen):
    """ST-3 and ST-3σ with their switches (``sparse/methods/st3.py``)."""

    method: Literal["st3"]
    target: float = Field(ge=0, lt=1)
    criterion: Literal["l1", "sigma"] = "l1"
    soft: bool = True
    rescale: bool = True
    backward: Literal["straight_through", "masked"] = "straight_through"
    ramp: Ramp

    @property
    def label(self) -> str:
        """As the papers name it; a switch that is off is said."""
        name = "ST-3σ" if self.criterion == "sigma" else "ST-3"
        off = [word for word, on in (("soft", self.soft), ("rescale", self.rescale)) if not on]
        masked = ["masked"] if self.backward == "masked" else []
        return " ".join([name, *(f"no-{word}" for word in off), *masked])


class Dense(Frozen):
    """No sparsity: the network as it is."""

    method: Literal["dense"]

    @property
    def target(self) -> float:
        return 0.0

    @property
    def label(self) -> str:
        return "dense"


SparsitySpec = Annotated[ST3 | Dense, Field(discriminator="method")]


# -- the trial --------------------------------------------------------------------------------------------------


class TrialSpec(Frozen):
    """One training run. ``recipe`` only names where the defaults came from (see ``recipes.resolve``)."""

    recipe: Literal["paper", "authors"] = "paper"
    seed: int = Field(0, ge=0, lt=2**31)
    model: ModelSpec
    data: DataSpec
    train: Train
    optim: Optim
    sparsity: SparsitySpec

    @model_validator(mode="after")
    def _rules_between_fields(self) -> TrialSpec:
        epochs = self.train.epochs
        for path, time in self._times():
            if isinstance(time, Epochs) and time.epochs > epochs:
                message = f"{time.epochs:g} epochs is past the end of training (train.epochs is {epochs})"
                raise fail(path, message, "train.epochs")
        if isinstance(self.sparsity, ST3):
            start, end = fraction(self.sparsity.ramp.start, epochs), fraction(self.sparsity.ramp.end, epochs)
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
        return self

    def _times(self) -> Iterator[tuple[str, float | Epochs]]:
        yield "optim.schedule.warmup", self.optim.schedule.warmup
        if isinstance(self.optim.schedule, StepSchedule):
            for index, milestone in enumerate(self.optim.schedule.milestones):
                yield f"optim.schedule.milestones.{index}", milestone
        if isinstance(self.sparsity, ST3):
            yield "sparsity.ramp.start", self.sparsity.ramp.start
            yield "sparsity.ramp.end", self.sparsity.ramp.end

    def digest(self) -> str:
        """Twelve hex digits that name the resolved trial, seed and paths apart: replicates share it."""
        fields = self.model_dump(mode="json")
        for apart in ("recipe", "seed"):
            fields.pop(apart)
        for path in ("root", "download"):
            fields["data"].pop(path, None)
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:12]


# -- looking a field up by its dotted path ----------------------------------------------------------------------


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


__all__ = ["DataSpec", "Epochs", "Frozen", "ModelSpec", "SparsitySpec", "TrialSpec", "fraction"]
