"""Evaluate the sparse model: always inside the sparse scope, after the method's refresh."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from st3sweep.sparse.method import Method, sparse_weights
from st3sweep.training.world import World


@torch.no_grad()
def evaluate(
    model: nn.Module,
    weights: Sequence[Tensor],
    method: Method,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    precision: str = "fp32",
    world: World | None = None,
) -> tuple[float, float]:
    """Return mean loss and top-1 accuracy (percent) over all ranks' ``batches``; one host-device synchronisation."""
    world = world or World()
    was_training = model.training
    model.eval()
    sums = torch.zeros(3, dtype=torch.float64, device=world.device)  # loss, correct, images
    with sparse_weights(weights, method):
        for x, y in batches:
            with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
                logits = model(x)
            sums[0] += F.cross_entropy(logits.float(), y, reduction="sum")
            sums[1] += (logits.argmax(1) == y).sum()
            sums[2] += len(y)
    model.train(was_training)
    loss, correct, images = world.sum(sums).tolist()
    return loss / images, 100.0 * correct / images
