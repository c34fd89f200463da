"""A random mask from the first step on, which nothing moves: the floor that every other method has to beat.

    m_l   K_l of the n_l weights, drawn without replacement; the K_l by ERK or uniform (``sparse/allocation.py``)
    θ̂   = θ m,  ∂L/∂θ = m ∂L/∂θ̂

Source: the baseline "Static" of Evci et al., ICML 2020 (arXiv 1911.11134), section 4. Differs from the paper: none.
"""

from __future__ import annotations

from st3sweep.sparse.allocation import allocate
from st3sweep.sparse.masked import Masked
from st3sweep.sparse.masks import random_masks
from st3sweep.sparse.method import Weights


class Static(Masked):
    """``target`` in [0, 1) is the sparsity of the layers that ``keep_dense`` does not name, throughout.

    The mask is a function of ``seed``, the shapes and these settings: the same on all ranks.
    """

    def __init__(
        self, weights: Weights, *, target: float, allocation: str = "erk", keep_dense: str = "none", seed: int = 0
    ):
        counts = allocate(allocation, [weight.shape for weight in weights], 1.0 - target, keep_dense)
        super().__init__(random_masks(weights, counts, seed), target=target, ratio=target)
