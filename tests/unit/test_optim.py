"""Test that the optimiser is torch's SGD, with rates in tensors too."""

from __future__ import annotations

import pytest
import torch

from st3sweep.sparse import flat
from st3sweep.training.sgd import SGD


def test_steps_and_state_are_those_of_torch() -> None:
    torch.manual_seed(0)
    first = [torch.nn.Parameter(torch.randn(4, 3)), torch.nn.Parameter(torch.randn(3))]
    second = [torch.nn.Parameter(p.detach().clone()) for p in first]
    optimizers = []
    for make, (weight, bias) in ((SGD, first), (torch.optim.SGD, second)):
        groups = [{"params": [weight]}, {"params": [bias], "weight_decay": 0.0}]
        optimizers.append(make(groups, lr=0.1, momentum=0.9, weight_decay=1e-2))
    for step in range(4):
        if step == 2:  # through a checkpoint
            states = [optimizer.state_dict() for optimizer in optimizers]
            for optimizer, state in zip(optimizers, reversed(states), strict=True):
                optimizer.load_state_dict(state)
        for optimizer, parameters in zip(optimizers, (first, second), strict=True):
            optimizer.zero_grad(set_to_none=True)
            assert all(p.grad is None for p in parameters)
            torch.sin(parameters[0] @ parameters[1]).sum().backward()
            optimizer.step()
        assert all(map(torch.equal, first, second))
    assert all(p.requires_grad for p in first), "the step is no part of the graph"


def test_a_second_use_of_a_parameter_is_an_error() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    with pytest.raises(ValueError, match="more than one parameter group"):
        SGD([{"params": [weight]}, {"params": [weight]}], lr=0.1)


def parameters(dtype: torch.dtype) -> list[torch.nn.Parameter]:
    """Return a channels-last and a 1x1 convolution's weights, and a bias."""
    torch.manual_seed(0)
    tensors = [torch.randn(6, 4, 3, 3), torch.randn(5, 6, 1, 1), torch.randn(5)]
    made = [tensor.to(dtype) for tensor in tensors]
    made[:2] = [tensor.to(memory_format=torch.channels_last) for tensor in made[:2]]
    return [torch.nn.Parameter(tensor) for tensor in made]


@pytest.mark.parametrize("constant_decay", [True, False])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_rates_in_tensors_give_the_numbers_of_rates_that_the_host_knows(
    constant_decay: bool, momentum: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit of torch's fused kernel, and to rounding of its other one, with rates that change at each step."""
    monkeypatch.setattr(flat, "launch_bound", lambda _: True)
    ours, fused, foreach = (parameters(torch.float64) for _ in range(3))
    optimizers: list[torch.optim.SGD] = []
    for own, kind in (
        (ours, {"constant_decay": constant_decay}),
        (fused, {"fused": True}),
        (foreach, {"foreach": True}),
    ):
        make = SGD if own is ours else torch.optim.SGD
        groups = [{"params": own[:2]}, {"params": own[2:], "weight_decay": 0.0}]
        optimizers.append(make(groups, lr=0.1, momentum=momentum, **kind))
    for step in range(4):
        lr, decay = 0.1 / (step + 1), 1e-2 if constant_decay else 1e-2 * (step + 1)
        torch.manual_seed(step)
        gradients = [torch.randn_like(p) for p in ours]
        for optimizer, own in zip(optimizers, (ours, fused, foreach), strict=True):
            for p, gradient in zip(own, gradients, strict=True):
                p.grad = gradient.clone()
            if isinstance(optimizer, SGD):
                optimizer.set_rates(lr, decay)
                assert all(isinstance(rate, torch.Tensor) for rate in optimizer.rates)
            else:
                for group in optimizer.param_groups:
                    group["lr"] = lr
                optimizer.param_groups[0]["weight_decay"] = decay
            optimizer.step()
    for one, other, rounded in zip(ours, fused, foreach, strict=True):
        assert not constant_decay or torch.equal(one, other)
        torch.testing.assert_close(one, rounded, rtol=1e-14, atol=1e-15)
    saved = optimizers[0].state_dict()["param_groups"]
    assert [(group["lr"], group["weight_decay"]) for group in saved] == [(0.025, decay), (0.025, 0.0)], "plain numbers"


def test_on_a_cpu_rates_are_numbers() -> None:
    optimizer = SGD([{"params": parameters(torch.float32)}], lr=0.1)
    optimizer.set_rates(0.5, 1e-3)
    assert optimizer.rates == (0.5, 1e-3)
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["weight_decay"]) == (0.5, 1e-3)
