"""``Method``: three verbs around a plain model; ``sparse_weights``: the scope in which the model is sparse.

Notation: θ the dense weights that are trained, θ̂ the sparse weights that the model computes with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from st3sweep.trial.settings import TrialSettings

Weights = Sequence[Tensor]


def prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Weights of every Conv2d and Linear by name, in order of definition; biases and norms are never pruned."""
    return {
        f"{name}.weight" if name else "weight": cast(nn.Parameter, module.weight)
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }


class Method:
    """Base of all methods, and the dense one: no verb does anything.

    The three verbs are ``refresh``, ``sparsify`` and ``transform_gradients``. ``scheduled_sparsity`` is what the method
    asks for now, ``target_sparsity`` what it ends at (with a budget, ST-3 counts both in multiply-accumulates).
    ``in_scope`` is true inside ``sparse_weights``, where θ̂ stands in the model. Methods with a random θ̂ have more hooks
    (``stochastic.py``).
    """

    target_sparsity: float = 0.0
    scheduled_sparsity: float = 0.0
    in_scope: bool = False

    # -- the three verbs ------------------------------------------------------------------------------------------

    def refresh(self, progress: float, weights: Weights) -> None:
        """Take a new threshold or mask from θ, after the step that brought training to ``progress`` (0 to 1)."""

    def sparsify(self, weights: Weights) -> list[Tensor] | None:  # noqa: ARG002
        """θ → θ̂, one new tensor a weight, which the caller may write to; None where θ̂ is θ."""
        return None

    def transform_gradients(self, progress: float, weights: Weights, optimizer: torch.optim.Optimizer) -> None:
        """∂L/∂θ̂ → ∂L/∂θ, in place in ``.grad``. Default: identity, the straight-through estimator.

        ``optimizer`` is the one that steps next: a method that starts a weight anew resets its momentum there.
        """

    # -- around training ------------------------------------------------------------------------------------------

    def prepare(
        self,
        trial: TrialSettings,  # noqa: ARG002
        weights: Weights,  # noqa: ARG002
        steps_per_epoch: int,  # noqa: ARG002
        pilot: Callable[[TrialSettings], float],  # noqa: ARG002
    ) -> dict[str, Any]:
        """Before the first step: find settings that depend on the data. Returns what was found, for the record.

        ``pilot(settings)`` trains a short training and returns the sparsity at its end. Default: nothing is needed.
        """
        return {}

    def step_own_parameters(self, lr: float, weight_decay: float) -> None:
        """Step the method's own parameters, after the optimiser's step; both settings are those of the weights.

        Parameters and their optimiser belong to the method: they are in its ``state_dict``, never in the model's.
        """

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold: tensors and plain values."""
        return {"ratio": self.scheduled_sparsity}  # the key is that of older checkpoints

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self.scheduled_sparsity = state["ratio"]

    # -- for the record -------------------------------------------------------------------------------------------

    @property
    def share_of_target(self) -> float:
        """The part of the target that is asked for now, 0 to 1."""
        return self.scheduled_sparsity / self.target_sparsity if self.target_sparsity else 0.0

    @property
    def at_target(self) -> bool:
        """Whether the sparsity asked for is the final one."""
        return self.scheduled_sparsity >= self.target_sparsity

    def projected_densities(self, weights: Weights) -> list[float] | None:  # noqa: ARG002
        """Density of each layer if the final sparsity were asked for of θ as it is; None where the present one is it.

        A count, without a forward pass: what a ramp's end would leave of this model. Changes nothing, draws nothing;
        may synchronise host and device.
        """
        return None

    def thresholds(self) -> list[float | None]:
        """Threshold of each layer; empty where the method has none."""
        return []

    def dense_gradients(self, steps: int) -> float:  # noqa: ARG002
        """The fraction of a training's ``steps`` that need the gradient of pruned weights too. Default: all do."""
        return 1.0

    @property
    def dense_passes(self) -> bool:
        """Whether the passes of a step count as dense ones, whatever zeros θ̂ has between steps."""
        return False


@contextmanager
def sparse_weights(weights: Weights, method: Method) -> Iterator[None]:
    """While open, ``weights`` hold θ̂; on leaving, after an exception too, θ is back bit by bit.

    Forward and backward belong inside, so that ``w.grad`` is ∂L/∂θ̂. The copy is in place: a backward pass that is
    started after the scope has closed raises, rather than silently using θ. Open autocast inside, never outside:
    it caches casts of the weights.
    """
    if method.in_scope:
        raise RuntimeError("sparse_weights is open already: θ would be overwritten by θ̂")
    held = method.sparsify(weights)
    if held is not None:
        _exchange(held, weights)  # so that one copy of the weights is all that a step needs on top
    method.in_scope = True
    try:
        yield
    finally:
        if held is not None:
            _copy(held, weights)
        method.in_scope = False


@torch.no_grad()
def harden(weights: Weights, method: Method) -> None:
    """θ <- θ̂ for good. Continue with ``FixedMask``, under which hardening again changes nothing."""
    sparse = method.sparsify(weights)
    if sparse is not None:
        _copy(sparse, weights)


@torch.no_grad()
def _copy(source: Weights, target: Weights) -> None:
    for from_, to in zip(source, target, strict=True):
        to.copy_(from_)


@torch.no_grad()
def _exchange(a: Weights, b: Weights) -> None:
    for one, other in zip(a, b, strict=True):
        kept = one.clone()
        one.copy_(other)
        other.copy_(kept)
