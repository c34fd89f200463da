"""``MethodConfig``: the settings of a sparse method. Each method's own class stands beside its equations.

The classes are in ``sparse/methods/``, one file a method. Here is what they share: the ramp, layers that stay dense,
and rules on how a method goes with the rest of a trial.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from st3sweep.trial.fields import Epochs, Frozen, Time, fail, fraction
from st3sweep.trial.registry import Registered, register
from st3sweep.trial.schedules import ramp

if TYPE_CHECKING:  # a space is read without torch
    from torch import Tensor

    from st3sweep.trial.settings import TrialSettings

__all__ = [
    "GflopsBudget",
    "KeepDense",
    "MethodConfig",
    "Ramp",
    "check_interval",
    "dense_layers_label",
    "register_method",
]

KeepDense = Literal["none", "first", "first_and_depthwise"]  # layers outside the target; the last: also all depthwise


class Ramp(Frozen):
    """When sparsity rises from 0 to its target, and how steeply (``schedules.ramp``)."""

    start: Time
    end: Time
    power: float = Field(gt=0)

    def fractions(self, epochs: int) -> tuple[float, float, float]:
        """Start and end as fractions of a training of ``epochs`` epochs, and the power."""
        return fraction(self.start, epochs), fraction(self.end, epochs), self.power

    def at(self, progress: float, epochs: int) -> float:
        """The part of the way to the target, 0 to 1, at ``progress``, a fraction of training."""
        return ramp(progress, *self.fractions(epochs))

    def check(self, epochs: int) -> None:
        """Raise the error of a ramp that ends before it starts."""
        start, end, _ = self.fractions(epochs)
        if start >= end:
            message = f"must start before it ends (start {start:g}, end {end:g} of training)"
            raise fail("sparsity.ramp", message, "train.epochs")


class GflopsBudget(Frozen):
    """A budget in place of a sparsity: 1e9 multiply-accumulates of one image that are left at the end."""

    target: float = Field(gt=0)


class MethodConfig(Registered):
    """Base of all method settings. A subclass narrows ``method`` to its name and is decorated ``@register_method``."""

    key: ClassVar[str] = "method"
    registered: ClassVar[dict[str, type[MethodConfig]]] = {}
    takes_gflops_budget: ClassVar[bool] = False  # whether ``gflops.target`` may stand in place of a target
    constant_sparsity: ClassVar[bool] = False  # whether the sparsity is the same from the first step to the last

    method: str

    @property
    def label(self) -> str:
        """The method as the papers name it, with every departure from them: the column ``method`` of the results."""
        return self.method

    @property
    def final_sparsity(self) -> float | None:
        """The final fraction of zeros that was asked for; None where it is an outcome of something else."""
        target: float | None = getattr(self, "target", None)
        return target

    def check(self, trial: TrialSettings) -> None:
        """Raise ``fail(...)`` where these settings break a rule, or do not go with the rest of ``trial``."""

    def ramp_progress(self, progress: float, epochs: int) -> float | None:  # noqa: ARG002
        """The part of the way to the target that is asked for at ``progress`` of training; None without a ramp.

        The way begins at the sparsity from before the ramp. For masks that are updated at intervals, it is that of the
        last update.
        """
        return None

    def build(self, weights: Sequence[Tensor], trial: TrialSettings, macs_per_weight: Sequence[float]) -> Any:
        """The ``sparse.method.Method`` of ``trial`` for ``weights``, each used for so many multiply-accumulates.

        Raises UserError where the settings and the model do not go together.
        """
        raise NotImplementedError


def check_interval(interval: float | Epochs, epochs: int) -> float:
    """``interval`` between two updates as a fraction of training, above 0."""
    if (found := fraction(interval, epochs)) == 0:
        raise fail("sparsity.interval", "must be above 0")
    return found


def dense_layers_label(keep: KeepDense) -> list[str]:
    """What a label says of the layers that stay dense: one word, or none."""
    return [] if keep == "none" else [f"dense-{keep.replace('_', '-')}"]


register_method = register
