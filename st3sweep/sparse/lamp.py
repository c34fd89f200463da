"""LAMP: score magnitudes relative to the larger weights of their layer, so that layers compare.

With the weights of a layer in order of magnitude, |θ_1| ≤ … ≤ |θ_n|:

    score_i = θ_i² / Σ_{j ≥ i} θ_j²

The largest weight of a layer scores 1, the maximum: while at least as many weights are kept as there are layers, each
layer keeps one.

Source: Lee et al., ICLR 2021 (arXiv 2010.07611), its score. Differs from the paper: none. Scores and masks are tested
against the authors' code (``tests/data/parity``). With ST-3 the scores decide, at every step, how many weights of a
layer are pruned; the layer's threshold is the magnitude at that count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from st3sweep.sparse.masks import largest


@torch.no_grad()
def lamp_scores(weight: Tensor) -> Tensor:
    """Return the score of each weight, float64 of the shape of ``weight``; 0 for a weight of 0.

    Of equal magnitudes the later one, in the order of ``flatten``, counts as larger.
    """
    ordered, order = weight.reshape(-1).abs().sort(stable=True)
    return torch.empty_like(ordered, dtype=torch.float64).scatter_(0, order, _scores(ordered)).view(weight.shape)


@torch.no_grad()
def lamp_thresholds(weights: Sequence[Tensor], sparsity: float) -> list[Tensor]:
    """Return each layer's threshold, 0-d, for pruning the ``floor((n-1) sparsity) + 1`` lowest of all scores.

    It is the largest |θ| pruned, 0 where none is. ``sparsity`` is in [0, 1). No host-device synchronisation on a GPU.
    """
    if not 0.0 <= sparsity < 1.0:
        raise ValueError(f"sparsity must be in [0, 1), got {sparsity}")
    total = sum(weight.numel() for weight in weights)
    layers = [_in_order(weight.detach().reshape(-1).abs()) for weight in weights]
    kept = largest([_scores(layer) for layer in layers], total - math.floor((total - 1) * sparsity) - 1)
    return [layer.masked_fill(mask, 0.0).amax() for layer, mask in zip(layers, kept, strict=True)]


def _scores(ordered: Tensor) -> Tensor:
    """Return scores, float64, of magnitudes in ascending order."""
    squares = ordered.double().square()
    left = squares.flip(0).cumsum(0).flip(0)  # over this weight and all larger ones
    return torch.where(squares > 0, squares / left, 0.0)


def _in_order(magnitudes: Tensor) -> Tensor:
    """Sort ascending. On a CPU, torch's sort also moves indices, which takes several times as long as numpy's."""
    if magnitudes.device.type == "cpu" and magnitudes.dtype in (torch.float32, torch.float64):
        return torch.from_numpy(np.sort(magnitudes.numpy()))
    return magnitudes.sort().values
