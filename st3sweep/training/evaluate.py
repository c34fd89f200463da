"""Evaluate the sparse model: always inside the sparse scope, after the method's refresh."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from st3sweep.sparse.method import Method, sparse_weights
from st3sweep.training.world import World
from st3sweep.trial.metric import Metric

MOST_CLASSES_WITHOUT_TOP5 = 20


class Evaluation(NamedTuple):
    """Means over all images: ``loss``, accuracies in percent; ``metric`` over all images at once. None if not asked."""

    loss: float
    top1: float
    top5: float | None = None
    metric: float | None = None


@torch.no_grad()
def evaluate(
    model: nn.Module,
    weights: Sequence[Tensor],
    method: Method,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    precision: str = "fp32",
    world: World | None = None,
    classes: int = 0,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    metric: Metric | None = None,
) -> Evaluation:
    """Evaluate the model on all ranks' ``batches`` (x, y); one host-device synchronisation, without ``metric``.

    Top-5 accuracy is computed where the data have more than 20 ``classes``. ``loss`` is cross-entropy unless given.
    """
    world = world or World()
    top5 = classes > MOST_CLASSES_WITHOUT_TOP5
    was_training = model.training
    model.eval()
    sums = torch.zeros(4, dtype=torch.float64, device=world.device)  # loss, correct, images, among the first five
    outputs: list[tuple[Tensor, Tensor]] = []
    with sparse_weights(weights, method):
        for x, y in batches:
            with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
                logits = model(x)
            scores = logits.float()
            sums[0] += F.cross_entropy(scores, y, reduction="sum") if loss is None else loss(scores, y) * len(y)
            sums[1] += (logits.argmax(1) == y).sum()
            sums[2] += len(y)
            if top5:
                sums[3] += (logits.topk(5, dim=1).indices == y.unsqueeze(1)).sum()
            if metric is not None:
                outputs.append((scores.cpu(), y.cpu()))
    model.train(was_training)
    total, correct, images, among_five = world.sum(sums).tolist()
    return Evaluation(
        total / images,
        100.0 * correct / images,
        100.0 * among_five / images if top5 else None,
        None if metric is None else _value(metric, outputs, world),
    )


def _value(metric: Metric, outputs: list[tuple[Tensor, Tensor]], world: World) -> float:
    """Return ``metric`` of all ranks' (outputs, labels), the same on every rank."""
    everyone = [pair for of_rank in world.gather(outputs) for pair in of_rank]
    value = None
    if world.is_main:
        logits, labels = (torch.cat(parts) for parts in zip(*everyone, strict=True))
        value = float(metric.function(logits, labels))
    return float(world.broadcast(value))
