"""A small training for tests: a model without batch norm, in float64, on random images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from st3sweep.networks.flops import layer_costs, macs_per_weight
from st3sweep.sparse.method import Method, prunable, sparse_weights
from st3sweep.sparse.methods import build_method
from st3sweep.training.optim import build_optimizer, optimisation_step
from st3sweep.training.world import World
from st3sweep.trial.rates import weight_decay
from st3sweep.trial.settings import TrialSettings

STEPS = 8


class SmallNet(nn.Module):
    """Model of a convolution, depthwise and pointwise convolution, linear layer: 72 + 72 + 128 + 64 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.pointwise = nn.Conv2d(8, 16, 1)
        self.fc = nn.Linear(16, 4)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        x = self.pointwise(F.relu(self.depthwise(F.relu(self.conv(x)))))  # (B, 16, H, W)
        return self.fc(F.relu(x).mean(dim=(2, 3)))  # (B, 4)


@dataclass
class Training:
    """A model, its method and its optimiser; ``step`` trains on one batch, or on this rank's share of it."""

    net: nn.Module
    weights: list[nn.Parameter]
    method: Method
    optimizer: torch.optim.Optimizer
    clip_norm: float | None

    def loss(self, step: int, part: slice = slice(None)) -> Tensor:
        x, y = batch(step)
        return F.cross_entropy(self.net(x[part]), y[part])

    def step(self, step: int, world: World | None = None) -> None:
        """Take step ``step`` of ``STEPS``; without a world, on the mean over the half-batches of two ranks."""
        shares = [slice(0, 8), slice(8, 16)]

        def loss_of() -> Tensor:
            if world is not None:
                return self.loss(step, shares[world.rank])
            return (self.loss(step, shares[0]) + self.loss(step, shares[1])) / 2

        optimisation_step(
            self.net,
            self.weights,
            self.method,
            self.optimizer,
            loss_of,
            progress=(step + 1) / STEPS,
            clip_norm=self.clip_norm,
            world=world,
        )


def start(spec: TrialSettings) -> Training:
    """Return the model before training, with the method and the optimiser of ``spec``."""
    torch.manual_seed(0)
    net = SmallNet()
    weights = list(prunable(net).values())
    method = build_method(spec, weights, macs_per_weight(layer_costs(net, (1, 6, 6))))
    optimizer = build_optimizer(net, weights, spec)
    optimizer.param_groups[0]["weight_decay"] = weight_decay(spec, 0, STEPS, 0.0)
    return Training(net, weights, method, optimizer, spec.optim.clip_norm)


def trained(spec: TrialSettings, steps: int = STEPS, world: World | None = None) -> Training:
    """Return the training of ``spec`` after ``steps`` of ``STEPS`` steps."""
    training = start(spec)
    for step in range(steps):
        training.step(step, world)
    return training


def batch(step: int) -> tuple[Tensor, Tensor]:
    """Return x (16, 1, 6, 6) float64 and y (16,), a function of ``step``."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(16, 1, 6, 6, generator=generator, dtype=torch.float64)
    return x, torch.randint(4, (16,), generator=generator)


def copies(tensors: list[Any]) -> list[Tensor]:
    """Return copies of the current values of ``tensors``."""
    return [tensor.detach().clone() for tensor in tensors]


def same(a: list[Any], b: list[Any]) -> bool:
    """Return whether ``a`` and ``b`` are equal bit by bit: -0.0 is not 0.0."""
    return all(torch.equal(x.view(torch.int64), y.view(torch.int64)) for x, y in zip(a, b, strict=True))


def sparse_of(training: Training) -> list[Tensor]:
    """Return the sparse weights θ̂ that the model computes with."""
    with sparse_weights(training.weights, training.method):
        return copies(training.weights)
