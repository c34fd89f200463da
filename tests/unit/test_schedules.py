"""Test sparsity ramp, learning rate and weight decay against values worked out by hand or published."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from make_methods import st3

from st3sweep.trial.rates import learning_rate, weight_decay
from st3sweep.trial.schedules import (
    cosine,
    last_update,
    ramp,
    step_decay,
    warm_up,
    weight_decay_by_target,
    weight_decay_with_sparsity,
)
from st3sweep.trial.settings import TrialSettings

TinyTrial = Callable[..., TrialSettings]
STEPS_PER_EPOCH = 352  # 45,000 images in batches of 128, the last one counted


@pytest.mark.parametrize(
    ("epoch", "batch", "expected"),
    [
        (4, 351, 0.0),
        (5, 0, 1.0227e-4),
        (5, 351, 0.035522),
        (20, 0, 0.439265),
        (40, 0, 0.763496),
        (79, 351, 0.9),
        (80, 0, 0.9),
        (159, 351, 0.9),
    ],
)
def test_ratio_of_st3(epoch: int, batch: int, expected: float) -> None:
    weights = [torch.linspace(-1, 1, 50)]
    method = st3(weights, target=0.9, ramp_start=5 / 160, ramp_end=80 / 160)
    method.refresh((epoch * STEPS_PER_EPOCH + batch + 1) / (160 * STEPS_PER_EPOCH), weights)
    assert method.scheduled_sparsity == pytest.approx(expected, rel=1e-4)
    assert (method.tau is None) == (expected == 0)
    assert method.at_target == (epoch >= 80 or (epoch, batch) == (79, 351))


@given(
    start=st.floats(0, 0.9), length=st.floats(0.01, 1), power=st.floats(0.5, 5), a=st.floats(0, 1), b=st.floats(0, 1)
)
def test_ramp_rises_from_0_to_1(start: float, length: float, power: float, a: float, b: float) -> None:
    end = min(1.0, start + length)
    a, b = sorted((a, b))
    assert 0 <= ramp(a, start, end, power) <= ramp(b, start, end, power) <= 1
    assert ramp(start, start, end, power) == 0
    assert ramp(end, start, end, power) == 1


def test_rounding_does_not_start_a_ramp_early() -> None:
    """A time in fractions of an epoch and the progress of its step differ in the last bit."""
    start, progress = 68.1 / 191, 681 / 1910
    assert progress > start
    assert ramp(progress, start, start + 0.5) == 0
    assert ramp(682 / 1910, start, start + 0.5) == pytest.approx(3 / 955, rel=2e-3)
    weights = [torch.randn(8, 3, 3, 3), torch.randn(10, 8)]
    for target in ({"target": 0.02}, {"gflops_budget": 0.98e-9 * sum(weight.numel() for weight in weights)}):
        method = st3(weights, **target, ramp_start=start, ramp_end=start + 0.5)
        method.refresh(progress, weights)
        assert method.sparsify(weights) is None


def test_ramp_by_hand() -> None:
    assert ramp(0.25, 0, 0.5, 3) == pytest.approx(7 / 8)
    assert ramp(0.25, 0, 0.5, 1) == pytest.approx(1 / 2)


def test_progress_of_a_ramp_is_the_scheduled_fraction_of_the_target(tiny_trial: TinyTrial) -> None:
    times = (0.0, 0.1, 0.2, 0.5, 1.0)
    spec = tiny_trial(train={"epochs": 10}, sparsity={"ramp": {"start": {"epochs": 1}, "end": 0.5, "power": 5}})
    assert [spec.ramp_progress(time) for time in times] == pytest.approx([0, 0, 1 - 0.75**5, 1, 1])
    assert tiny_trial(sparsity={"method": "dense"}).ramp_progress(0.5) is None


def test_updates_by_hand() -> None:
    times = [0.0, 0.1, 0.2, 0.3, 0.39, 0.4, 0.55, 0.6, 0.7, 1.0]
    found = [round(last_update(time, 0.1, 0.7, 0.25), 9) for time in times]
    assert found == [0.1, 0.1, 0.1, 0.1, 0.35, 0.35, 0.35, 0.6, 0.7, 0.7]


@pytest.mark.parametrize(("total", "every"), [(32_000, 100), (97_656, 100), (7, 1), (62_560, 4_000)])
def test_updates_come_at_the_exact_steps(total: int, every: int) -> None:
    times = [last_update(step / total, 0.0, 1.0, every / total) for step in range(total + 1)]
    rises = [step for step in range(1, total + 1) if times[step] > times[step - 1]]
    assert rises == sorted({*range(every, total + 1, every), total})


def test_parts_of_the_learning_rate() -> None:
    assert [step_decay(p, [0.5, 0.75], 0.1) for p in (0, 0.4999, 0.5, 0.75)] == pytest.approx([1, 1, 0.1, 0.01])
    assert [warm_up(p, 0.1) for p in (0, 0.05, 0.1, 0.5)] == pytest.approx([0, 0.5, 1, 1])
    assert warm_up(0, 0) == 1
    assert [cosine(p) for p in (0, 1 / 3, 0.5, 1)] == pytest.approx([1, 0.75, 0.5, 0])
    assert [cosine(p, start=0.2, final=0.1) for p in (0, 0.2, 0.6, 1)] == pytest.approx([1, 1, 0.55, 0.1])


def rates(spec: TrialSettings, steps: list[int], total: int) -> list[float]:
    return [learning_rate(spec, step, total) for step in steps]


def test_learning_rate_in_steps(tiny_trial: TinyTrial) -> None:
    schedule = {"kind": "step", "milestones": [{"epochs": 80}, 0.75], "warmup": {"epochs": 1}}
    spec = tiny_trial(train={"epochs": 160}, optim={"lr": 0.2, "schedule": schedule})
    total = 160 * 10
    found = rates(spec, [0, 1, 9, 10, 799, 800, 1199, 1200, 1599], total)
    assert found == pytest.approx([0.02, 0.04, 0.2, 0.2, 0.2, 0.02, 0.02, 0.002, 0.002])


def test_learning_rate_along_a_cosine(tiny_trial: TinyTrial) -> None:
    schedule = {"kind": "cosine", "warmup": 0.05}
    spec = tiny_trial(train={"epochs": 100}, optim={"lr": 0.2, "schedule": schedule})
    last = 0.2 * (1 + math.cos(math.pi * (1999 / 2000 - 0.05) / 0.95)) / 2
    assert rates(spec, [0, 50, 99, 100, 1050, 1999], 2000) == pytest.approx([0.002, 0.102, 0.2, 0.2, 0.1, last])
    assert 0 < last < 1e-6


def test_learning_rate_of_fine_tuning(tiny_trial: TinyTrial) -> None:
    assert rates(tiny_trial(train={"finetune_epochs": 1}), [99, 100, 150], 100) == pytest.approx([1e-3, 1e-3, 1e-3])
    chosen = tiny_trial(train={"finetune_epochs": 1, "finetune_lr": 0.03})
    assert rates(chosen, [99, 100, 150], 100) == pytest.approx([1e-3, 0.03, 0.03])


@pytest.mark.parametrize(
    ("network", "target", "expected"),
    [
        ("resnet50", 0.5, 1e-4), ("resnet50", 0.80, 1e-4), ("resnet50", 0.9, 1e-4), ("resnet50", 0.95, 1e-4),
        ("resnet50", 0.951, 1e-5), ("resnet50", 0.965, 1e-5), ("resnet50", 0.98, 1e-5), ("resnet50", 0.981, 0.0),
        ("resnet50", 0.99, 0.0), ("resnet50", 0.995, 0.0),
        ("mobilenet_v1", 0.80, 1e-4), ("mobilenet_v1", 0.81, 1e-5), ("mobilenet_v1", 0.89, 1e-5),
        ("mobilenet_v1", 0.95, 1e-5), ("mobilenet_v1", 0.99, 1e-5),
    ],
)  # fmt: skip
def test_weight_decay_by_target(network: str, target: float, expected: float) -> None:
    assert weight_decay_by_target(network, target) == expected


def test_weight_decay_of_a_model_without_rows() -> None:
    with pytest.raises(KeyError):
        weight_decay_by_target("resnet20", 0.9)


def decays(spec: TrialSettings, steps_and_ramps: list[tuple[int, float]]) -> list[float]:
    return [weight_decay(spec, step, 100, ramp) for step, ramp in steps_and_ramps]


def with_decay(tiny_trial: TinyTrial, decay: dict[str, Any], **other: Any) -> TrialSettings:
    return tiny_trial(optim={"weight_decay": decay}, **other)


def test_weight_decay_of_each_kind(tiny_trial: TinyTrial) -> None:
    points = [(0, 0.0), (50, 0.5), (100, 1.0), (110, 1.0)]
    constant = with_decay(tiny_trial, {"kind": "constant", "value": 5e-4})
    assert decays(constant, points) == [5e-4] * 4
    falling = with_decay(tiny_trial, {"kind": "with_sparsity", "value": 1e-4, "final_ratio": 0.1})
    assert decays(falling, points) == pytest.approx([1e-4, 5.5e-5, 1e-5, 1e-5])
    along = with_decay(tiny_trial, {"kind": "cosine", "value": 1e-4, "final_ratio": 0.5})
    assert decays(along, points) == pytest.approx([1e-4, 7.5e-5, 5e-5, 5e-5])
    table = with_decay(tiny_trial, {"kind": "by_target"}, model={"arch": "mobilenet_v1"})
    assert decays(table, points) == [1e-4] * 4


def test_weight_decay_with_sparsity_0_does_not_fall(tiny_trial: TinyTrial) -> None:
    decay = {"kind": "with_sparsity", "value": 1e-4, "final_ratio": 0.1}
    assert decays(with_decay(tiny_trial, decay, sparsity={"target": 0.0}), [(100, 0.0)]) == [1e-4]
    assert weight_decay_with_sparsity(1e-4, 0.0, 1.0) == 0
