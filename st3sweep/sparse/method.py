"""``Method``: the interface of sparse methods; ``sparse_weights``: the scope in which the model computes with θ̂.

Notation: θ the dense weights that are trained, θ̂ the sparse weights that the model computes with.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from st3sweep.sparse.flat import Group, groups
from st3sweep.trial.settings import TrialSettings

Weights = Sequence[Tensor]


def prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights of every Conv2d and Linear by name, in order of definition; never biases or norms."""
    return {
        f"{name}.weight" if name else "weight": cast(nn.Parameter, module.weight)
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }


class Method:
    """Base of all methods, and itself dense training: its three verbs leave weights and gradients unchanged.

    The three verbs are ``refresh``, ``sparsify`` and ``transform_gradients``. ``scheduled_sparsity`` is the current
    target, ``target_sparsity`` the final one (with a budget, ST-3 counts both in multiply-accumulates). ``in_scope`` is
    true inside ``sparse_weights``, while the model holds θ̂. Methods with a random θ̂ have more hooks
    (``stochastic.py``).
    """

    target_sparsity: float = 0.0
    scheduled_sparsity: float = 0.0
    in_scope: bool = False
    eager_because: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        # Not inherited: a subclass with another verb would be replayed without it.
        if "eager_because" not in vars(cls):
            cls.eager_because = "it does not say that a recorded step can be replayed"

    # -- the three verbs ------------------------------------------------------------------------------------------

    def refresh(self, progress: float, weights: Weights) -> None:
        """Compute a new threshold or mask from θ, after the step that brought training to ``progress`` (0 to 1)."""

    def sparsify(self, weights: Weights) -> list[Tensor] | None:  # noqa: ARG002
        """Return θ̂ of θ, one new tensor a weight, which the caller may write to; None where θ̂ is θ."""
        return None

    def transform_gradients(self, progress: float, weights: Weights, optimizer: torch.optim.Optimizer) -> None:
        """Turn ∂L/∂θ̂ into ∂L/∂θ, in place in ``.grad``. Default: identity, the straight-through estimator.

        ``optimizer`` is the one that steps next: a method that regrows a weight resets its momentum there.
        """

    # -- steps that a CUDA graph replays --------------------------------------------------------------------------
    #
    # A graph replays the operations of one step on tensors at fixed addresses. ``eager_because`` says why no step of a
    # method can be replayed, and is empty where steps can; each class says so anew. No verb of such a method waits for
    # the device, and the state that its steps read and write stays at its addresses (``flat.renewed``) after two eager
    # steps. For every later one, to ``progress``: if ``replays(progress)``, copy what ``schedule(progress)`` returns to
    # the device and replay a step that called ``refresh_from``; else run an eager step, which calls ``refresh``.

    def replays(self, progress: float) -> bool:  # noqa: ARG002
        """Return whether the step to ``progress`` is like any other: false where it updates masks. Changes no state."""
        return not self.eager_because

    def schedule(self, progress: float) -> tuple[float, ...]:  # noqa: ARG002
        """Move what the host knows of the method to ``progress``; return the numbers that ``refresh_from`` needs.

        There are as many at every step.
        """
        return ()

    def refresh_from(self, numbers: Tensor, weights: Weights) -> None:
        """Do what ``refresh`` does, for the ``numbers`` that ``schedule`` returned, (k,) float64 on the device.

        Gives the same bits. ``step_own_parameters`` takes its two numbers as such 0-d tensors too.
        """

    # -- around training ------------------------------------------------------------------------------------------

    def prepare(
        self,
        trial: TrialSettings,  # noqa: ARG002
        weights: Weights,  # noqa: ARG002
        steps_per_epoch: int,  # noqa: ARG002
        pilot: Callable[[TrialSettings], float],  # noqa: ARG002
    ) -> dict[str, Any]:
        """Find settings that depend on the data, before the first step, and return them for the record.

        ``pilot(settings)`` runs a short training and returns its final sparsity. Default: does nothing.
        """
        return {}

    def step_own_parameters(self, lr: float | Tensor, weight_decay: float | Tensor) -> None:
        """Step the method's own parameters, after the optimiser's step; ``lr`` and ``weight_decay`` are the weights'.

        Parameters and their optimiser belong to the method: they are in its ``state_dict``, never in the model's.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return the method's state for a checkpoint: tensors and plain values."""
        return {"ratio": self.scheduled_sparsity}  # the key of older checkpoints

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.scheduled_sparsity = state["ratio"]

    # -- for the record -------------------------------------------------------------------------------------------

    @property
    def share_of_target(self) -> float:
        """Return the current target as a fraction of the final one, 0 to 1."""
        return self.scheduled_sparsity / self.target_sparsity if self.target_sparsity else 0.0

    @property
    def at_target(self) -> bool:
        """Return whether the current target sparsity is the final one."""
        return self.scheduled_sparsity >= self.target_sparsity

    def projected_densities(self, weights: Weights) -> list[float] | None:  # noqa: ARG002
        """Return each layer's density if the present θ were pruned to the final sparsity; None where it is already.

        A count, without a forward pass: the model that the end of the ramp would leave. Changes no state, draws no
        random numbers; may need host-device synchronisation.
        """
        return None

    def thresholds(self) -> Tensor | None:
        """Return the threshold of each layer, (layers,), on the weights' device; None where the method has none."""
        return None

    def dense_gradients(self, steps: int) -> float:  # noqa: ARG002
        """Return the fraction of a training's ``steps`` that need gradients of pruned weights too. Default: all."""
        return 1.0

    @property
    def dense_passes(self) -> bool:
        """Return whether the passes of a step count as dense, whatever zeros θ̂ has between steps."""
        return False


@contextmanager
def sparse_weights(weights: Weights, method: Method) -> Iterator[None]:
    """Put θ̂ into ``weights`` while open, and restore θ bit by bit on leaving, after an exception too.

    Forward and backward belong inside, so that ``w.grad`` is ∂L/∂θ̂. The copy is in place: a backward pass started
    after the scope has closed raises, rather than silently using θ. Open autocast inside, never outside: it caches
    casts of the weights.
    """
    if method.in_scope:
        raise RuntimeError("sparse_weights is open already: θ would be overwritten by θ̂")
    held = _replace(weights, method.sparsify(weights))
    method.in_scope = True
    try:
        yield
    finally:
        _restore(weights, held)
        method.in_scope = False


@torch.no_grad()
def harden(weights: Weights, method: Method) -> None:
    """Overwrite θ with θ̂. Continue with ``FixedMask``, under which hardening again changes nothing."""
    sparse = method.sparsify(weights)
    if sparse is not None:
        torch._foreach_copy_(list(weights), sparse)


@torch.no_grad()
def _replace(weights: Weights, sparse: list[Tensor] | None) -> list[tuple[Group, Tensor]]:
    """Write θ̂ to ``weights``, and return θ by group; nothing where θ̂ is θ."""
    if sparse is None:
        return []
    left, held = deque(sparse), []
    del sparse  # each layer's θ̂ is released once it is written: a step needs only one more copy of the weights
    for group in groups(weights):
        row = group.flatten(weights)
        held.append((group, row.clone() if group.single else row))
        torch._foreach_copy_(list(weights[group.layers]), [left.popleft() for _ in group.sizes])
    return held


@torch.no_grad()
def _restore(weights: Weights, held: list[tuple[Group, Tensor]]) -> None:
    for group, row in held:
        group.write(row, weights)
