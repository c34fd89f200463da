"""Recompute batch-norm statistics for the final sparse model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from st3sweep.sparse.method import Method, sparse_weights
from st3sweep.training.world import World


@torch.no_grad()
def recalibrate(
    model: nn.Module,
    weights: Sequence[Tensor],
    method: Method,
    batches: Iterable[tuple[Tensor, Tensor]],
    world: World,
    *,
    precision: str = "fp32",
) -> None:
    """Set every batch norm's running mean and variance to plain averages over ``batches`` (x, y) of all ranks.

    The model computes with θ̂, in the ``precision`` of its evaluation. Everything else, dropout included, is as in
    evaluation; recalibrating twice on the same batches gives the same statistics.
    """
    was_training = model.training
    model.eval()
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over all batches
        norm.train()
    with sparse_weights(weights, method):
        for x, _ in batches:
            with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
                model(x)
    world.all_reduce_mean_(buffer for buffer in model.buffers() if buffer.is_floating_point())
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.train(was_training)
