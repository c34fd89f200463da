"""Test recalibration of batch norm: it sets plain averages over the batches, of the sparse model, and nothing else."""

from __future__ import annotations

import torch
from make_methods import st3
from torch import Tensor, nn

from st3sweep.sparse.method import prunable, sparse_weights
from st3sweep.sparse.methods.st3 import ST3
from st3sweep.training.recalibrate import recalibrate
from st3sweep.training.world import World


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3, momentum=0.3), nn.Dropout(0.5), nn.Flatten())


def pruned(model: nn.Module) -> tuple[list[Tensor], ST3]:
    weights: list[Tensor] = list(prunable(model).values())
    method = st3(weights, target=0.5)
    method.refresh(1.0, weights)
    return weights, method


def batches() -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    return [(torch.randn(n, 1, 2, 2) * n + 1, torch.zeros(n)) for n in (4, 4, 4)]


def test_statistics_are_averages_over_the_batches_of_the_sparse_model() -> None:
    model = network()
    weights, method = pruned(model)
    dense = [weight.detach().clone() for weight in weights]
    recalibrate(model, weights, method, batches(), World())
    with torch.no_grad(), sparse_weights(weights, method):
        outputs = [model[0](x).transpose(0, 1).flatten(1) for x, _ in batches()]  # (3, B H W)
    torch.testing.assert_close(model[1].running_mean, torch.stack([o.mean(1) for o in outputs]).mean(0))
    torch.testing.assert_close(model[1].running_var, torch.stack([o.var(1) for o in outputs]).mean(0))
    assert torch.equal(weights[0], dense[0])
    assert model[1].momentum == 0.3
    assert model.training


def test_recalibrating_twice_changes_nothing_and_dropout_is_off() -> None:
    model = network()
    weights, method = pruned(model)
    once_more = batches()
    state = torch.get_rng_state()
    recalibrate(model, weights, method, once_more, World())
    once = {name: buffer.clone() for name, buffer in model.named_buffers()}
    recalibrate(model, weights, method, once_more, World())
    assert all(torch.equal(buffer, once[name]) for name, buffer in model.named_buffers())
    assert torch.equal(torch.get_rng_state(), state)
