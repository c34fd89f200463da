"""Gradients averaged while the backward pass runs, and in one message after it: run by each rank of a test."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from st3sweep.training import buckets
from st3sweep.training.world import World

Averages = list[Tensor | None]


class Odd(nn.Module):
    """Three layers, one of them used twice; a frozen parameter, one that gets no gradient, and one of float64."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.twice, self.last = nn.Linear(5, 300), nn.Linear(300, 300), nn.Linear(300, 3)
        self.frozen = nn.Parameter(torch.randn(300), requires_grad=False)
        self.unused, self.scale = nn.Parameter(torch.randn(7)), nn.Parameter(torch.ones(3, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(self.twice(self.first(x)).tanh() * self.frozen)
        return self.last(x).tanh() * self.scale


def of_passes(world: World, passes: int, size: int | None) -> Averages:
    """Return the gradients of ``Odd`` after some passes; in buckets of ``size`` bytes, or None: after each pass."""
    model = Odd()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buckets, "BUCKET_BYTES", size)
        for number in range(passes):
            torch.manual_seed(100 * number + world.rank)
            loss = model(torch.randn(4, 5)).square().sum()
            if number == 1:
                loss = loss + model.unused.sum()
            if size is None:
                loss.backward()
                world.all_reduce_mean_(p.grad for p in model.parameters() if p.grad is not None)
            else:
                with world.averaging(model.parameters()):
                    loss.backward()
    return [p.grad for p in model.parameters()]


def order_of_events(world: World, size: int) -> list[str]:
    """Return in which order messages are sent, and what is there by then, in one backward pass of ``Odd``."""
    model, events, all_reduce = Odd(), [], dist.all_reduce
    for name, p in model.named_parameters():
        if p.requires_grad:
            p.register_post_accumulate_grad_hook(lambda _, name=name: events.append(name))  # type: ignore[misc]

    def sent(row: Tensor, **settings: Any) -> Any:
        events.append(f"sent {len(row)}")
        return all_reduce(row, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buckets, "BUCKET_BYTES", size)
        patch.setattr(dist, "all_reduce", sent)
        with world.averaging(model.parameters()):
            model(torch.randn(4, 5)).sum().backward()
            events.append("end of the pass")
    return events


def after_an_error(world: World) -> bool:
    """Return whether a pass that fails, when a message is on its way, leaves the model as it was."""
    model = Odd()
    failing = model.first.weight.register_post_accumulate_grad_hook(lambda _: 1 / 0)  # type: ignore[arg-type, return-value]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buckets, "BUCKET_BYTES", 2000)
        with pytest.raises(ZeroDivisionError), world.averaging(model.parameters()):
            model(torch.randn(4, 5)).sum().backward()
        failing.remove()
        model.zero_grad()
        model(torch.randn(4, 5)).sum().backward()  # no rank sends
    return all(not p._post_accumulate_grad_hooks for p in model.parameters() if p.grad is not None)


def compared(world: World) -> dict[str, Any]:
    """Return what the tests look at."""
    return {
        "averages": {
            passes: {size: of_passes(world, passes, size) for size in (None, 1, 2000, 400_000, 1 << 30)}
            for passes in (1, 2, 3)
        },
        "events": {size: order_of_events(world, size) for size in (2000, 1 << 30)},
        "after an error": after_an_error(world),
    }
