"""LAMP: magnitudes scored by what is left of their layer once all smaller ones are gone, so that layers compare.

With the weights of a layer in order of magnitude, |θ_1| ≤ … ≤ |θ_n|:

    score_i = θ_i² / Σ_{j ≥ i} θ_j²

The largest weight of a layer scores 1, the most there is: while no fewer weights live than there are layers, each layer
keeps one.

Source: Lee et al., ICLR 2021 (arXiv 2010.07611), its score. Differs from the paper: none. Scores and masks are met
against the authors' code (``tests/data/parity``). With ST-3 it decides, at every step, how many weights a layer loses;
the layer's threshold is the magnitude at that count.
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
    """The score of each weight, float64 of the shape of ``weight``; 0 for a weight of 0.

    Of equal magnitudes the one that comes later, in the order of ``flatten``, counts as larger.
    """
    ordered, order = weight.reshape(-1).abs().sort(stable=True)
    return torch.empty_like(ordered, dtype=torch.float64).scatter_(0, order, _scores(ordered)).view(weight.shape)


@torch.no_grad()
def lamp_thresholds(weights: Sequence[Tensor], ratio: float) -> list[Tensor]:
    """For each layer the largest |θ| that falls, 0-d, when the ``floor((n-1) ratio) + 1`` lowest of all scores fall.

    0 where none falls. ``ratio`` is in [0, 1). On a GPU nothing waits for the device.
    """
    if not 0.0 <= ratio < 1.0:
        raise ValueError(f"ratio must be in [0, 1), got {ratio}")
    total = sum(weight.numel() for weight in weights)
    layers = [_in_order(weight.detach().reshape(-1).abs()) for weight in weights]
    kept = largest([_scores(layer) for layer in layers], total - math.floor((total - 1) * ratio) - 1)
    return [layer.masked_fill(mask, 0.0).amax() for layer, mask in zip(layers, kept, strict=True)]


def _scores(ordered: Tensor) -> Tensor:
    """Scores, float64, of magnitudes that rise."""
    squares = ordered.double().square()
    left = squares.flip(0).cumsum(0).flip(0)  # over this weight and all larger ones
    return torch.where(squares > 0, squares / left, 0.0)


def _in_order(magnitudes: Tensor) -> Tensor:
    """Rising. torch's sort moves indices along, which on a CPU takes several times as long as the values alone."""
    if magnitudes.device.type == "cpu" and magnitudes.dtype in (torch.float32, torch.float64):
        return torch.from_numpy(np.sort(magnitudes.numpy()))
    return magnitudes.sort().values
