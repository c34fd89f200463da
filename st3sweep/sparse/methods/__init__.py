"""Register the sparse methods, one file each, on import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from st3sweep.sparse.method import Method, Weights
from st3sweep.sparse.methods import dense, dnw, gmp, granet, probmask, rigl, st3, static
from st3sweep.sparse.methods import str as learned_thresholds
from st3sweep.sparse.methods.fixed_mask import FixedMask
from st3sweep.trial.settings import TrialSettings

__all__ = [
    "build_method", "dense", "dnw", "gmp", "granet", "learned_thresholds", "probmask", "restore_method", "rigl", "st3",
    "static",
]  # fmt: skip


def build_method(trial: TrialSettings, weights: Weights, macs_per_weight: Sequence[float]) -> Method:
    """Build the method of ``trial`` for ``weights``; ``macs_per_weight`` is MAC_l / numel_l of each.

    Raises UserError where a budget is more than the dense model costs.
    """
    method: Method = trial.sparsity.build(weights, trial, macs_per_weight)
    return method


def restore_method(
    trial: TrialSettings, weights: Weights, macs_per_weight: Sequence[float], state: dict[str, Any]
) -> Method:
    """Rebuild a method from its ``state_dict`` ``state``: that of ``trial``, or the fixed mask that follows it."""
    method = FixedMask(weights, 0.0) if "fixed_masks" in state else build_method(trial, weights, macs_per_weight)
    method.load_state_dict(state)
    return method
