"""The sparse methods, one file each, registered on import; and how a trial's method is built and restored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from st3sweep.sparse.method import Method, Weights
from st3sweep.sparse.methods.fixed_mask import FixedMask
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.submodules import import_submodules


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


import_submodules(__name__, __path__)
