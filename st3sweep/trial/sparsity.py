"""``MethodConfig``: base of all method settings. Each method's class is beside its equations in ``sparse/methods/``.

This module has what they share: the ramp, layers that stay dense, and rules between a method and the rest of a trial.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from st3sweep.trial.fields import Epochs, Frozen, Time, fail, fraction
from st3sweep.trial.from_function import FunctionForm, registering
from st3sweep.trial.registry import Registered
from st3sweep.trial.schedules import last_update, ramp

if TYPE_CHECKING:  # a stored run is read without torch
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
    """Schedule of sparsity from 0 to its target: start, end and power (``schedules.ramp``)."""

    start: Time
    end: Time
    power: float = Field(gt=0)

    def fractions(self, epochs: int) -> tuple[float, float, float]:
        """Return start and end as fractions of a training of ``epochs`` epochs, and the power."""
        return fraction(self.start, epochs), fraction(self.end, epochs), self.power

    def at(self, progress: float, epochs: int) -> float:
        """Return the fraction of the way to the target, 0 to 1, at ``progress``, a fraction of training."""
        return ramp(progress, *self.fractions(epochs))

    def at_last_update(self, progress: float, interval: float | Epochs, epochs: int) -> float:
        """Return ``at`` the last of the updates that come every ``interval``, and at the ramp's end."""
        start, end, _ = self.fractions(epochs)
        return self.at(last_update(progress, start, end, fraction(interval, epochs)), epochs)

    def check(self, epochs: int) -> None:
        """Raise ``fail(...)`` for a ramp that does not start before it ends."""
        start, end, _ = self.fractions(epochs)
        if start >= end:
            message = f"must start before it ends (start {start:g}, end {end:g} of training)"
            raise fail("sparsity.ramp", message, "train.epochs")


class GflopsBudget(Frozen):
    """Budget in place of a sparsity: 1e9 multiply-accumulates of one image left at the end."""

    target: float = Field(gt=0)


class MethodConfig(Registered):
    """Base of all method settings. A subclass narrows ``method`` to its name and is decorated ``@register_method``."""

    key: ClassVar[str] = "method"
    registered: ClassVar[dict[str, type[MethodConfig]]] = {}
    takes_gflops_budget: ClassVar[bool] = False  # whether ``gflops.target`` may replace a target
    constant_sparsity: ClassVar[bool] = False  # whether the sparsity is the same from the first step to the last

    method: str

    @property
    def fresh_start(self) -> str:
        """Return why trained weights cannot be the start, as the end of a sentence; empty where they can."""
        return ""

    @property
    def label(self) -> str:
        """Return the papers' name of the method, with every difference from them: the results' column ``method``."""
        return self.method

    @property
    def final_sparsity(self) -> float | None:
        """Return the requested final fraction of zeros; None where it is an outcome of other settings."""
        target: float | None = getattr(self, "target", None)
        return target

    def check(self, trial: TrialSettings) -> None:
        """Raise ``fail(...)`` where these settings break a rule, or are incompatible with the rest of ``trial``."""

    def ramp_progress(self, progress: float, epochs: int) -> float | None:  # noqa: ARG002
        """Return the scheduled fraction of the way to the target at ``progress`` of training; None without a ramp.

        The way starts at the sparsity before the ramp. For masks updated at intervals, the fraction is that of the last
        update.
        """
        return None

    def build(self, weights: Sequence[Tensor], trial: TrialSettings, macs_per_weight: Sequence[float]) -> Any:
        """Build the ``sparse.method.Method`` of ``trial`` for ``weights``; ``macs_per_weight`` is MAC_l / numel_l.

        Raises UserError where the settings and the model are incompatible.
        """
        raise NotImplementedError


def check_interval(interval: float | Epochs, epochs: int) -> float:
    """Return ``interval`` between two updates as a fraction of training. Raises ``fail(...)`` where it is 0."""
    if (found := fraction(interval, epochs)) == 0:
        raise fail("sparsity.interval", "must be above 0")
    return found


def dense_layers_label(keep: KeepDense) -> list[str]:
    """Return the words of a label for the layers that stay dense: one, or none."""
    return [] if keep == "none" else [f"dense-{keep.replace('_', '-')}"]


def register_method(what: Any, build: Callable[..., Any] | None = None) -> Any:
    """Register a sparse method under the name that a space gives as ``sparsity.method``.

    ``register_method("mine", build)``: ``build(weights, trial, macs_per_weight, target=0.9)`` returns a
    ``sparse.method.Method``; it need not take the first three. Every other parameter is a field beside ``method``.
    ``@register_method("mine")`` decorates such a function, ``@register_method`` a ``MethodConfig`` class, which can
    check its settings too. Raises ValueError for a name that another method has.
    """

    return registering(MethodConfig, METHOD_FORM, what, build)


def _attributes(call: Callable[..., Any]) -> dict[str, Any]:
    def build(self: MethodConfig, weights: Any, trial: Any, macs_per_weight: Sequence[float]) -> Any:
        return call(self, weights=weights, trial=trial, macs_per_weight=macs_per_weight)

    return {"build": build}


METHOD_FORM = FunctionForm(("weights", "trial", "macs_per_weight"), _attributes)
