"""Fields of a space's ``sparsity``: the methods, each with its own settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from st3sweep.spec.fields import Frozen, Time


class Ramp(Frozen):
    """When sparsity rises from 0 to its target, and how steeply."""

    start: Time
    end: Time
    power: float = Field(gt=0)


class ST3(Frozen):
    """ST-3 and ST-3σ with their switches (``sparse/methods/st3.py``)."""

    method: Literal["st3"]
    target: float | None = Field(None, ge=0, lt=1)  # final fraction of zeros; or else gflops.target
    criterion: Literal["l1", "sigma", "lamp", "family"] = "l1"
    shape_power: float | None = Field(None, ge=-4, le=4)  # a and b of criterion family: (0, 0) is l1, (1, 0) sigma
    mac_power: float | None = Field(None, ge=-4, le=4)
    soft: bool = True
    rescale: bool = True
    backward: Literal["straight_through", "masked"] = "straight_through"
    ramp: Ramp

    @property
    def label(self) -> str:
        """As the papers name it; a switch that is off is said."""
        name = {"l1": "ST-3", "sigma": "ST-3σ", "lamp": "ST-3 LAMP", "family": "ST-3ab"}[self.criterion]
        off = [word for word, on in (("soft", self.soft), ("rescale", self.rescale)) if not on]
        masked = ["masked"] if self.backward == "masked" else []
        return " ".join([name, *(f"no-{word}" for word in off), *masked])


KeepDense = Literal["none", "first", "first_and_depthwise"]  # layers outside the target; the last: also all depthwise


class UsualRamp(Ramp):
    """The same with the times of the ST-3 recipe, for methods that are compared with it."""

    start: Time = 5 / 160
    end: Time = 80 / 160
    power: float = Field(3, gt=0)


class GMP(Frozen):
    """Gradual magnitude pruning (``sparse/methods/gmp.py``)."""

    method: Literal["gmp"]
    target: float = Field(ge=0, lt=1)  # final fraction of zeros, of the layers that are pruned
    allocation: Literal["uniform", "global"] = "uniform"
    criterion: Literal["l1", "lamp"] = "l1"  # what a global ranking goes by
    keep_dense: KeepDense = "none"
    ramp: UsualRamp = UsualRamp()
    interval: Time = 0.01  # between two updates; the end of the ramp is always one

    @property
    def label(self) -> str:
        """As the papers name it; whatever is not the paper's is said."""
        ranking = {"uniform": [], "global": ["global"]}[self.allocation] + (
            ["LAMP"] if self.criterion == "lamp" else []
        )
        return " ".join(["GMP", *ranking, *_dense_layers(self.keep_dense)])


class Static(Frozen):
    """A random mask that stays (``sparse/methods/static.py``)."""

    method: Literal["static"]
    target: float = Field(ge=0, lt=1)  # fraction of zeros, of the layers that are pruned
    allocation: Literal["erk", "uniform"] = "erk"
    keep_dense: KeepDense = "none"

    @property
    def label(self) -> str:
        name = {"erk": "static+ERK", "uniform": "static"}[self.allocation]
        return " ".join([name, *_dense_layers(self.keep_dense)])


class RigL(Frozen):
    """A sparse network that is rewired by its gradient (``sparse/methods/rigl.py``)."""

    method: Literal["rigl"]
    target: float = Field(ge=0, lt=1)  # fraction of zeros, of the layers that are pruned
    allocation: Literal["erk", "uniform"] = "erk"
    keep_dense: KeepDense = "none"
    drop_fraction: float = Field(0.3, gt=0, le=1)  # of the live weights, at the first update
    interval: Time = 1 / 320  # between two updates: 100 of the 32,000 steps of the paper's ResNet-50
    stop: Time = 0.75  # no updates from here on

    @property
    def label(self) -> str:
        """As the papers name it: with uniform densities the first layer is dense in theirs."""
        if self.allocation == "erk":
            return " ".join(["RigL+ERK", *_dense_layers(self.keep_dense)])
        return {"first": "RigL", "none": "RigL all-sparse"}.get(self.keep_dense, "RigL dense-first-and-depthwise")


class GraNetRamp(Ramp):
    """The same with the times of GraNet's paper: the first 80 of 160 epochs."""

    start: Time = 0.0
    end: Time = 80 / 160
    power: float = Field(3, gt=0)


class GraNet(Frozen):
    """Gradual pruning with regeneration (``sparse/methods/granet.py``)."""

    method: Literal["granet"]
    target: float = Field(ge=0, lt=1)  # final fraction of zeros, of the layers that are pruned
    initial_density: float = Field(0.5, gt=0, le=1)  # by ERK; or that of the target, where it is denser
    keep_dense: KeepDense = "none"
    drop_fraction: float = Field(0.5, gt=0, le=1)  # of the live weights, at the first update
    ramp: GraNetRamp = GraNetRamp()
    interval: Time = 0.016  # between two updates: 1,000 of the 62,560 steps of the paper's CIFAR networks

    @property
    def label(self) -> str:
        """As the papers name it; a dense start is said."""
        start = ["dense-start"] if self.initial_density == 1 else []
        return " ".join(["GraNet", *start, *_dense_layers(self.keep_dense)])


def _dense_layers(keep: KeepDense) -> list[str]:
    return [] if keep == "none" else [f"dense-{keep.replace('_', '-')}"]


class Dense(Frozen):
    """No sparsity: the network as it is."""

    method: Literal["dense"]

    @property
    def target(self) -> float:
        return 0.0

    @property
    def ramp(self) -> None:
        return None

    @property
    def label(self) -> str:
        return "dense"


class DNW(Frozen):
    """DNW (``sparse/methods/dnw.py``): the same fraction of every layer, from the first step on."""

    method: Literal["dnw"]
    target: float = Field(ge=0, lt=1)  # fraction of zeros, of each layer that is pruned
    keep_dense: KeepDense = "none"

    @property
    def label(self) -> str:
        return " ".join(["DNW", *_dense_layers(self.keep_dense)])


class Calibration(Frozen):
    """How STR's start value is found for a target (``training/calibration.py``)."""

    pilot: Time = 0.1  # length of a pilot training, at least four epochs
    runs: int = Field(6, ge=1)  # pilots at most
    tolerance: float = Field(0.05, gt=0, lt=1)  # an epoch is at the target if its sparsity is so near


class STR(Frozen):
    """STR (``sparse/methods/str.py``): learned thresholds; sparsity comes out of ``s_init`` and the weight decay."""

    method: Literal["str"]
    s_init: float | None = Field(None, le=0)  # start value of every layer's s; its threshold is the logistic of s
    target: float | None = Field(None, gt=0, lt=1)  # in place of s_init: the fraction of zeros to calibrate it for
    calibrate: Calibration | None = None
    s_lr_ratio: float = Field(1.0, gt=0)  # learning rate and weight decay of s, relative to those of the weights
    s_decay_ratio: float = Field(1.0, ge=0)

    @property
    def label(self) -> str:
        return "STR"


class ProbMaskRamp(Ramp):
    """The same with the paper's times: 16 % and 60 % of training."""

    start: Time = 0.16
    end: Time = 0.6
    power: float = Field(3, gt=0)


class ProbMask(Frozen):
    """ProbMask (``sparse/methods/probmask.py``): a learned probability for each weight."""

    method: Literal["probmask"]
    target: float = Field(ge=0, lt=1)  # final fraction of zeros, in expectation
    ramp: ProbMaskRamp = ProbMaskRamp()
    masks_per_step: int = Field(2, ge=1)  # each a forward and a backward pass
    score_lr: float = Field(6e-3, gt=0)  # Adam's learning rate of the probabilities
    final_masks: int = Field(10, ge=1)  # drawn at the end; the best on the training images stays

    @property
    def label(self) -> str:
        return "ProbMask"


class Gflops(Frozen):
    """A budget in place of a sparsity: 1e9 multiply-accumulates of one image that are left at the end."""

    target: float = Field(gt=0)


SparsitySpec = Annotated[
    ST3 | Dense | GMP | Static | RigL | GraNet | DNW | STR | ProbMask, Field(discriminator="method")
]
