"""Settings ``train`` and ``optim``: length, numerics, optimiser and its schedules."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from st3sweep.trial.fields import Frozen, Time


class StepSchedule(Frozen):
    """Learning rate multiplied by ``gamma`` at each milestone, after a linear warm-up."""

    kind: Literal["step"]
    milestones: tuple[Time, ...] = (0.5, 0.75)
    gamma: float = Field(0.1, gt=0, le=1)
    warmup: Time = 0.0


class CosineSchedule(Frozen):
    """Learning rate along half a cosine to ``final_ratio`` times its value, after a linear warm-up."""

    kind: Literal["cosine"]
    warmup: Time = 0.0
    final_ratio: float = Field(0.0, ge=0, le=1)


class ConstantDecay(Frozen):
    """Constant weight decay."""

    kind: Literal["constant"]
    value: float = Field(1e-4, ge=0)


class DecayByTarget(Frozen):
    """Weight decay by model and target sparsity, from the ST-3 appendix's tables."""

    kind: Literal["by_target"]


class FallingDecay(Frozen):
    """Weight decay from ``value`` down to ``value * final_ratio``, with the sparsity or along half a cosine."""

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
    precision: Literal["auto", "fp32", "bf16"]  # auto: bf16 on GPUs that have it, fp32 elsewhere
    deterministic: bool = False  # bit-identical reruns on one GPU, by slower algorithms; a CPU always repeats itself
    compile: bool = False  # torch.compile, with CUDA graphs on a GPU; minutes to start with, worth it on GPUs only
    graph: Literal["auto", "on", "off"] = "auto"  # steps replayed as one CUDA graph; auto: wherever that can be done
    bn_momentum: float = Field(gt=0, le=1)  # in PyTorch's sense: weight of the newest batch
    bn_recalibration: int = Field(0, ge=0)  # batches that recompute the statistics after hardening; 0: as trained
    finetune_epochs: int = Field(ge=0)  # with fixed masks, after ``epochs``
    finetune_lr: float | None = Field(None, gt=0)  # null: a hundredth of optim.lr
