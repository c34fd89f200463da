"""Test that the optimiser is torch's SGD."""

from __future__ import annotations

import pytest
import torch

from st3sweep.training.optim import SGD


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
