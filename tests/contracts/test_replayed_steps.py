"""Contract of every method whose steps a CUDA graph can replay: numbers on the device, nothing waits, fixed addresses.

Run on a CPU in the form of a GPU: all layers as one group, and ``refresh_from`` with what ``schedule`` returned.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from compare import thresholds_of
from dispatches import Dispatches
from settings import METHODS, RAMPED
from small_training import STEPS, Training, copies, same, sparse_of, start, trained
from test_dispatches import settings
from torch import Tensor

from st3sweep.sparse import flat
from st3sweep.sparse.method import Method
from st3sweep.sparse.methods.st3 import ST3
from st3sweep.trial.settings import TrialSettings

BUDGETED = ("st3-budget", {"method": "st3", "budget": 3000e-9})  # of 10,432 multiply-accumulates
EAGER = {"probmask"}


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat, "launch_bound", lambda _: True)


def spec_of(sparsity: dict[str, Any]) -> TrialSettings:
    """Return settings with a ramp that starts after some of the steps, so that the first prune nothing."""
    sparsity = dict(sparsity)
    budget = sparsity.pop("budget", None)
    if sparsity["method"] in RAMPED:
        sparsity["ramp"] = {"start": 0.4, "end": 0.9}
    spec = settings({**sparsity, **({} if budget is None else {"target": 0.5})})
    if budget is not None:
        changed = {"sparsity": spec.sparsity.model_copy(update={"target": None})}
        spec = type(spec).model_validate({**spec.model_dump(), **changed, "gflops": {"target": budget}})
    return spec


def replayed_step(training: Training, step: int) -> Dispatches:
    """Take a step whose numbers are tensors, as one that is captured; return what it dispatched."""
    method, optimizer = training.method, training.optimizer
    numbers = torch.tensor(method.schedule((step + 1) / STEPS), dtype=torch.float64)
    own = type(method).step_own_parameters

    def refresh(progress: float, weights: Any) -> None:
        method.refresh_from(numbers, weights)

    def step_own_parameters(lr: float, weight_decay: float) -> None:
        own(method, *rates)

    rates = [torch.tensor(optimizer.param_groups[0][name], dtype=torch.float64) for name in ("lr", "weight_decay")]
    with pytest.MonkeyPatch.context() as patch, Dispatches() as counter:
        patch.setattr(method, "refresh", refresh)
        patch.setattr(method, "step_own_parameters", step_own_parameters)
        training.step(step)
    return counter


def state_of(method: Method) -> list[Tensor]:
    """Return all tensors of the method's state."""
    found: list[Tensor] = []

    def visit(value: Any) -> None:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, dict):
            for item in value.values():
                visit(item)
        elif isinstance(value, list | tuple):
            for item in value:
                visit(item)

    visit([*vars(method).values(), method.state_dict()])
    return found


@pytest.mark.parametrize(("name", "sparsity"), [*METHODS, BUDGETED], ids=[name for name, _ in [*METHODS, BUDGETED]])
def test_steps_with_their_numbers_on_the_device(name: str, sparsity: dict[str, Any]) -> None:
    """They wait for nothing, keep their state where it is, and end in the bits of eager steps."""
    spec = spec_of(sparsity)
    training, replayed = start(spec), 0
    assert bool(training.method.eager_because) == (sparsity["method"] in EAGER)
    if training.method.eager_because:
        assert not any(training.method.replays(step / STEPS) for step in range(STEPS))
        return
    training.step(0)
    training.step(1)  # the first that computes with a threshold
    places: list[int] = []
    for step in range(2, STEPS):
        if training.method.replays((step + 1) / STEPS):
            counter, replayed = replayed_step(training, step), replayed + 1
            assert not counter.waiting, (step, counter.waiting)
        else:
            training.step(step)
        places = places or [tensor.data_ptr() for tensor in state_of(training.method)]
        assert [tensor.data_ptr() for tensor in state_of(training.method)][: len(places)] == places
    assert replayed
    expected = trained(spec)
    assert same(copies(list(training.net.parameters())), copies(list(expected.net.parameters())))
    assert same(sparse_of(training), sparse_of(expected))
    assert training.method.scheduled_sparsity == expected.method.scheduled_sparsity
    assert training.method.at_target == expected.method.at_target
    assert thresholds_of(training.method) == thresholds_of(expected.method)


@pytest.mark.parametrize("sparsity", [s for _, s in [*METHODS, BUDGETED] if s["method"] == "st3"])
def test_a_sparsity_of_zero_on_the_device_prunes_nothing(sparsity: dict[str, Any]) -> None:
    """To the bit: the step before the ramp is that of dense training, though it computes a threshold."""
    training, dense = start(spec_of(sparsity)), start(spec_of({"method": "dense"}))
    for step in range(3):
        replayed_step(training, step)
        dense.step(step)
    assert training.method.scheduled_sparsity == 0.0
    assert same(copies(list(training.net.parameters())), copies(list(dense.net.parameters())))
    assert same(sparse_of(training), copies(list(dense.weights)))


def test_a_method_of_a_user_runs_eagerly_until_it_says_that_it_can_be_replayed() -> None:
    class Own(ST3):
        def refresh(self, progress: float, weights: Any) -> None: ...

    class Stated(ST3):
        eager_because = ""

    assert Own.eager_because
    assert not Stated.eager_because
    assert not Method.eager_because
