"""The optimiser, its schedules, and one optimisation step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from st3sweep.schedules import (
    cosine,
    step_decay,
    warm_up,
    weight_decay_by_target,
    weight_decay_with_sparsity,
)
from st3sweep.sparse.method import Method, sparse_weights
from st3sweep.spec import StepSchedule, TrialSpec, fraction
from st3sweep.training.world import World


def build_optimizer(model: nn.Module, weights: Sequence[Tensor], spec: TrialSpec) -> torch.optim.SGD:
    """SGD in two groups: the prunable ``weights`` with weight decay, everything else without."""
    decayed = {id(weight) for weight in weights}
    rest = [p for p in model.parameters() if id(p) not in decayed]
    groups: list[dict[str, Any]] = [{"params": list(weights)}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=spec.optim.lr, momentum=spec.optim.momentum)


def learning_rate(spec: TrialSpec, step: int, total_steps: int) -> float:
    """Learning rate of ``step``, counted from 0, of ``total_steps``; past the end, that of fine-tuning."""
    if step >= total_steps:
        return spec.train.finetune_lr or spec.optim.lr / 100
    schedule, epochs = spec.optim.schedule, spec.train.epochs
    progress = step / total_steps
    warmup = fraction(schedule.warmup, epochs)
    if isinstance(schedule, StepSchedule):
        milestones = [fraction(time, epochs) for time in schedule.milestones]
        factor = step_decay(progress, milestones, schedule.gamma)
    else:
        factor = cosine(progress, start=warmup, final=schedule.final_ratio)
    return spec.optim.lr * factor * warm_up((step + 1) / total_steps, warmup)


def weight_decay(spec: TrialSpec, step: int, total_steps: int, share_of_target: float) -> float:
    """Weight decay of ``step``; ``share_of_target`` is the part of the target asked for at that step, 0 to 1."""
    decay = spec.optim.weight_decay
    if decay.kind == "by_target":
        return weight_decay_by_target(spec.model.name, spec.sparsity.target or 0.0)
    if decay.kind == "with_sparsity":
        return weight_decay_with_sparsity(decay.value, decay.final_ratio, share_of_target)
    if decay.kind == "cosine":
        return decay.value * cosine(min(1.0, step / total_steps), final=decay.final_ratio)
    return decay.value


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
) -> tuple[Tensor, Tensor]:
    """One step of training; ``progress`` is the fraction of training that is done after it.

    Order: forward and backward on θ̂ → gradients averaged over ranks → θ is back → ``pull_back`` → clip → optimiser →
    the method's own step → ``refresh``. Up to ``pull_back`` once for each of the method's samples, of which gradient
    and loss are the mean. Returns the loss and the gradient's norm before clipping, 0-d tensors: nothing waits for the
    device.
    """
    optimizer.zero_grad(set_to_none=True)
    samples, earlier = method.samples, []
    for sample in range(samples):
        method.draw(sample)
        loss = _backward(model, weights, method, loss_of, 1.0 / samples, world)
        method.pull_back(progress, weights, optimizer)
        if sample + 1 < samples:
            earlier.append((loss, _taken(weights)))
    for its_loss, gradients in earlier:
        loss += its_loss
        _added(weights, gradients)
    parameters = [p for p in model.parameters() if p.grad is not None]
    if clip_norm is None:
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    else:
        norm = torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
    optimizer.step()
    of_weights = optimizer.param_groups[0]
    method.step(of_weights["lr"], of_weights["weight_decay"])
    method.refresh(progress, weights)
    return loss, norm


def _backward(
    model: nn.Module,
    weights: Sequence[Tensor],
    method: Method,
    loss_of: Callable[[], Tensor],
    share: float,
    world: World | None,
) -> Tensor:
    """One pass: ``share`` of the loss, and of ∂L/∂θ̂ in ``.grad``, the same on all ranks.

    Parameters that are not pruned add it to that of an earlier pass, which is the same on all ranks already.
    """
    with sparse_weights(weights, method):
        loss = loss_of() if share == 1.0 else loss_of() * share
        loss.backward()
        if world is not None:
            world.mean_(p.grad for p in model.parameters() if p.grad is not None)
    return loss.detach()


def _taken(weights: Sequence[Tensor]) -> list[Tensor | None]:
    """∂L/∂θ, taken from ``.grad``: the next pass would add ∂L/∂θ̂ to it."""
    gradients = [weight.grad for weight in weights]
    for weight in weights:
        weight.grad = None
    return gradients


def _added(weights: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    for weight, gradient in zip(weights, gradients, strict=True):
        if weight.grad is not None and gradient is not None:
            weight.grad += gradient


def classification_loss(
    forward: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, *, label_smoothing: float, precision: str
) -> Callable[[], Tensor]:
    """Cross-entropy of one batch, to be called inside the sparse scope: autocast must open there."""

    def loss() -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = forward(x)
        return F.cross_entropy(logits.float(), y, label_smoothing=label_smoothing)

    return loss
