"""Static sparse training: a random mask, fixed from the first step; the baseline of all other methods.

    m_l   K_l of the n_l weights, drawn without replacement; the K_l by ERK or uniform (``sparse/allocation.py``)
    θ̂   = θ m,  ∂L/∂θ = m ∂L/∂θ̂

Source: the baseline "Static" of Evci et al., ICML 2020 (arXiv 1911.11134), section 4. Differs from the paper: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from st3sweep.sparse.allocation import allocate
from st3sweep.sparse.masked_method import MaskedMethod
from st3sweep.sparse.masks import random_masks
from st3sweep.sparse.method import Weights
from st3sweep.trial.settings import TrialSettings
from st3sweep.trial.sparsity import KeepDense, MethodConfig, dense_layers_label, register_method


@register_method
class StaticConfig(MethodConfig):
    """Settings of static sparse training, with a fixed random mask."""

    constant_sparsity: ClassVar[bool] = True

    method: Literal["static"] = "static"
    target: float = Field(ge=0, lt=1)  # fraction of zeros, of the layers that are pruned
    allocation: Literal["erk", "uniform"] = "erk"
    keep_dense: KeepDense = "none"

    @property
    def fresh_start(self) -> str:
        return "which keeps a random part of them from the first step on"

    @property
    def label(self) -> str:
        name = {"erk": "static+ERK", "uniform": "static"}[self.allocation]
        return " ".join([name, *dense_layers_label(self.keep_dense)])

    def build(self, weights: Weights, trial: TrialSettings, macs_per_weight: Sequence[float]) -> Static:  # noqa: ARG002
        return Static(weights, self, seed=trial.seed)


class Static(MaskedMethod):
    """Static sparse training on ``weights``.

    The mask is a function of ``seed``, the shapes and the settings: the same on all ranks.
    """

    eager_because = ""

    def __init__(self, weights: Weights, config: StaticConfig, *, seed: int):
        shapes, density = [weight.shape for weight in weights], 1.0 - config.target
        counts = allocate(config.allocation, shapes, density, config.keep_dense)
        masks = random_masks(weights, counts, seed)
        super().__init__(masks, target_sparsity=config.target, scheduled_sparsity=config.target)
