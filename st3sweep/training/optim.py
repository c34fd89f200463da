"""Build the optimiser, and take one optimisation step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from st3sweep.sparse.method import Method, sparse_weights
from st3sweep.sparse.stochastic import StochasticMethod, passes_of
from st3sweep.training.sgd import SGD
from st3sweep.training.world import World
from st3sweep.trial.settings import TrialSettings


def build_optimizer(model: nn.Module, weights: Sequence[Tensor], spec: TrialSettings) -> SGD:
    """Build SGD with two groups: the prunable ``weights`` with weight decay, everything else without."""
    decayed = {id(weight) for weight in weights}
    rest = [p for p in model.parameters() if id(p) not in decayed]
    groups: list[dict[str, Any]] = [{"params": list(weights)}, {"params": rest, "weight_decay": 0.0}]
    constant = spec.optim.weight_decay.kind in ("constant", "by_target")
    return SGD(groups, constant_decay=constant, lr=spec.optim.lr, momentum=spec.optim.momentum, foreach=True)


def optimisation_step(
    model: nn.Module,
    weights: Sequence[Tensor],
    method: Method,
    optimizer: torch.optim.Optimizer,
    loss_of: Callable[[], Tensor],
    *,
    progress: float,
    clip_norm: float | None,
    world: World | None = None,
    numbers: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Take one training step; ``progress`` is the fraction of training done after it.

    Order: forward and backward on θ̂ → average gradients over ranks → restore θ → ``transform_gradients`` → clip →
    optimiser → the method's own step → ``refresh``. A stochastic method repeats the part up to ``transform_gradients``
    for each pass, and averages gradient and loss. Returns the loss and the gradient's norm before clipping, 0-d
    tensors: no host-device synchronisation. With ``numbers``, those of ``Method.schedule`` on the device, the step is
    one that a graph can replay: it ends in ``refresh_from``.
    """
    optimizer.zero_grad(set_to_none=True)
    passes, earlier = passes_of(method), []
    for number in range(passes):
        if isinstance(method, StochasticMethod):
            method.begin_pass(number)
        loss = _backward(model, weights, method, loss_of, 1.0 / passes, world)
        method.transform_gradients(progress, weights, optimizer)
        if number + 1 < passes:
            earlier.append((loss, _taken(weights)))
    for its_loss, gradients in earlier:
        loss += its_loss
        _added(weights, gradients)
    parameters = [p for p in model.parameters() if p.grad is not None]
    if clip_norm is None:
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None], foreach=True)
    else:
        norm = torch.nn.utils.clip_grad_norm_(parameters, clip_norm, foreach=True)
    optimizer.step()
    of_weights = optimizer.param_groups[0]
    rates = optimizer.rates if isinstance(optimizer, SGD) else (of_weights["lr"], of_weights["weight_decay"])
    method.step_own_parameters(*rates)
    if numbers is None:
        method.refresh(progress, weights)
    else:
        method.refresh_from(numbers, weights)
    return loss, norm


def _backward(
    model: nn.Module,
    weights: Sequence[Tensor],
    method: Method,
    loss_of: Callable[[], Tensor],
    share: float,
    world: World | None,
) -> Tensor:
    """Run one pass: return ``share`` of the loss, and put ``share`` of ∂L/∂θ̂, averaged over ranks, into ``.grad``.

    Parameters that are never pruned add it to the gradient of an earlier pass, already the same on all ranks.
    """
    with sparse_weights(weights, method):
        loss = loss_of() if share == 1.0 else loss_of() * share
        with nullcontext() if world is None else world.averaging(model.parameters()):
            loss.backward()
    return loss.detach()


def _taken(weights: Sequence[Tensor]) -> list[Tensor | None]:
    """Return ∂L/∂θ and clear ``.grad``, to which the next pass would add ∂L/∂θ̂."""
    gradients = [weight.grad for weight in weights]
    for weight in weights:
        weight.grad = None
    return gradients


def _added(weights: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    pairs = [(weight.grad, gradient) for weight, gradient in zip(weights, gradients, strict=True)]
    both = [(one, other) for one, other in pairs if one is not None and other is not None]
    if both:
        torch._foreach_add_([one for one, _ in both], [other for _, other in both])


def classification_loss(
    forward: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    *,
    label_smoothing: float,
    precision: str,
    loss_of_outputs: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Callable[[], Tensor]:
    """Return a function for the loss of one batch, to call inside the sparse scope: autocast opens there.

    The loss is cross-entropy, or ``loss_of_outputs(outputs, y)`` of outputs that are at least float32.
    """

    def loss() -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = forward(x)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if loss_of_outputs is not None:
            return loss_of_outputs(logits, y)
        return F.cross_entropy(logits, y, label_smoothing=label_smoothing)

    return loss
