"""Round a model's prunable weights to float16."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from st3sweep.export.model_file import counted, rebuilt, totals
from st3sweep.export.packed_file import packable
from st3sweep.util.errors import UserError


def in_half(state: dict[str, Tensor], metadata: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the state_dict with prunable weights rounded to float16 (in float32), and the metadata that fit it.

    Weights below 3e-8 round to zero: zeros, sparsity and gflops are counted again where that happens. Raises UserError
    for a weight above 65504, which float16 cannot express.
    """
    rounded = dict(state)
    for name in packable(state, list(metadata["zeros"])):
        rounded[name] = state[name].half().float()
        if not torch.equal(torch.isfinite(rounded[name]), torch.isfinite(state[name])):
            largest = float(state[name].abs().max())
            raise UserError(f"--fp16: {name} has a weight of {largest:.4g}, and float16 ends at 65504")
    costs, zeros = counted(rebuilt(rounded, metadata), metadata)
    by_layer = {layer.name: count for layer, count in zip(costs, zeros, strict=True)}
    if by_layer == metadata["zeros"]:
        return rounded, metadata
    return rounded, {**metadata, "zeros": by_layer, **totals(costs, zeros)}
