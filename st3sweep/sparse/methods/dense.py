"""Dense training, without pruning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from st3sweep.sparse.method import Method, Weights
from st3sweep.trial.fields import fail
from st3sweep.trial.settings import TrialSettings
from st3sweep.trial.sparsity import MethodConfig, register_method


@register_method
class DenseConfig(MethodConfig):
    """Settings of dense training: there are none."""

    method: Literal["dense"] = "dense"

    @property
    def final_sparsity(self) -> float:
        return 0.0

    def check(self, trial: TrialSettings) -> None:
        if (kind := trial.optim.weight_decay.kind) in ("with_sparsity", "by_target"):
            raise fail("optim.weight_decay.kind", f"{kind} has no effect with method dense", "sparsity.method")

    def build(self, weights: Weights, trial: TrialSettings, macs_per_weight: Sequence[float]) -> Method:  # noqa: ARG002
        return Method()
