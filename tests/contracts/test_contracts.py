"""Test the contracts of every method. Methods are added in ``settings.py``."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from compare import flat, thresholds_of, timeless
from hypothesis import given
from hypothesis import strategies as st
from interruptions import fit_in_pieces
from settings import DRAWN, INTERRUPTIONS, METHODS, OUTCOME, RAMPED, UNPRUNED, ZEROS_OFF
from small_training import STEPS, Training, batch, copies, same, sparse_of, start, trained

from st3sweep import data
from st3sweep.networks.flops import layer_costs
from st3sweep.sparse.masks import nonzeros
from st3sweep.sparse.method import harden, sparse_weights
from st3sweep.sparse.methods.fixed_mask import FixedMask
from st3sweep.sparse.stochastic import StochasticMethod
from st3sweep.training import checkpoint
from st3sweep.training.loop import fit
from st3sweep.training.saver import BEST, LAST
from st3sweep.training.world import World
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.errors import UserError
from st3sweep.util.storage.local import Local

TinyTrial = Callable[..., TrialSettings]
every_method = pytest.mark.parametrize("sparsity", [sparsity for _, sparsity in METHODS], ids=[n for n, _ in METHODS])
every_method_with_a_target = pytest.mark.parametrize(
    "sparsity", [pytest.param(s, id=name) for name, s in METHODS if s["method"] not in OUTCOME]
)


def at(sparsity: dict[str, Any], target: float) -> dict[str, Any]:
    """Return the same method with another target, where it has one."""
    return {**sparsity, "target": target} if "target" in sparsity else sparsity


def ramped(sparsity: dict[str, Any]) -> dict[str, Any]:
    """Return the same method with a ramp over three quarters of training, where it has one."""
    return {**sparsity, "ramp": {"start": 0.0, "end": 0.75}} if sparsity["method"] in RAMPED else sparsity


def densities(training: Training) -> list[float]:
    """Return the density of each layer, counted in θ̂."""
    alive = zip(nonzeros(sparse_of(training)), training.weights, strict=True)
    return [count / weight.numel() for count, weight in alive]


# -- density ----------------------------------------------------------------------------------------------------


@every_method_with_a_target
@hypothesis.settings(max_examples=30)
@given(target=st.floats(0.01, 0.99))
def test_density_hits_the_target(tiny_trial: TinyTrial, sparsity: dict[str, Any], target: float) -> None:
    spec = tiny_trial(sparsity=at(sparsity, target))
    training = start(spec)
    training.method.refresh(1.0, training.weights)
    if isinstance(training.method, StochasticMethod):
        training.method.choose_mask(lambda: 0.0)
    # The target excludes the layers left dense: the first, or the first and the depthwise one after it.
    first = {"first": 1, "first_and_depthwise": 2}.get(sparsity.get("keep_dense", "none"), 0)
    numels = [weight.numel() for weight in training.weights]
    alive = nonzeros(sparse_of(training))
    assert alive[:first] == numels[:first]
    total = sum(numels[first:])
    zeros = total - sum(alive[first:])
    assert training.method.at_target
    if spec.sparsity.final_sparsity == 0:
        assert zeros == 0
    else:
        assert abs(zeros - (math.floor((total - 1) * target) + 1)) <= ZEROS_OFF.get(sparsity["method"], 1)


@every_method
def test_sparsity_0_is_bit_identical_to_dense(tiny_trial: TinyTrial, sparsity: dict[str, Any]) -> None:
    dense = trained(tiny_trial(sparsity={"method": "dense"}))
    unpruned = UNPRUNED.get(sparsity["method"], {"target": 0.0} if "target" in sparsity else {})
    nothing_pruned = trained(tiny_trial(sparsity={**sparsity, **unpruned}))
    assert not same(dense.weights, start(tiny_trial()).weights)
    assert same(list(dense.net.parameters()), list(nothing_pruned.net.parameters()))


@every_method
def test_the_target_matters(tiny_trial: TinyTrial, sparsity: dict[str, Any]) -> None:
    """Guard the test above: training at the method's own target differs from dense training."""
    dense, training = trained(tiny_trial(sparsity={"method": "dense"})), trained(tiny_trial(sparsity=sparsity))
    assert same(dense.weights, training.weights) == (sparsity["method"] == "dense")


def test_every_switch_of_st3_does_something(tiny_trial: TinyTrial) -> None:
    switches: list[dict[str, Any]] = [
        {},
        {"criterion": "sigma"},
        {"criterion": "lamp"},
        {"criterion": "family", "shape_power": 0.5, "mac_power": 0.0},
        {"criterion": "family", "shape_power": 0.0, "mac_power": 0.5},
        {"soft": False},
        {"rescale": False},
        {"backward": "masked"},
        {"ramp": {"start": 0.2}},
        {"ramp": {"end": 0.7}},
        {"ramp": {"power": 1}},
    ]
    found = [trained(tiny_trial(sparsity=switch)).weights for switch in switches]
    assert [[same(a, b) for b in found] for a in found] == torch.eye(len(switches), dtype=torch.bool).tolist()


@pytest.mark.parametrize(("powers", "criterion"), [((0, 0), "l1"), ((1, 0), "sigma")])
def test_the_family_includes_st3_and_sigma(tiny_trial: TinyTrial, powers: tuple[float, float], criterion: str) -> None:
    family = {"criterion": "family", "shape_power": powers[0], "mac_power": powers[1]}
    ours, theirs = (trained(tiny_trial(sparsity=sparsity)) for sparsity in (family, {"criterion": criterion}))
    assert same(ours.weights, theirs.weights)
    assert same(sparse_of(ours), sparse_of(theirs))


@hypothesis.settings(max_examples=30)
@given(part=st.floats(0.02, 1.0), criterion=st.sampled_from(["l1", "sigma"]))
@hypothesis.example(part=0.71484375, criterion="sigma")  # the last score once survived its division by c_l
def test_a_budget_of_macs_is_met(tiny_trial: TinyTrial, part: float, criterion: str) -> None:
    """It is met to within the model's most expensive weight, and never exceeded."""
    costs = layer_costs(start(tiny_trial()).net, (1, 6, 6))
    dense = sum(cost.macs for cost in costs)
    spec = tiny_trial(sparsity={"target": None, "criterion": criterion}, gflops={"target": part * dense / 1e9})
    training = start(spec)
    training.method.refresh(1.0, training.weights)
    alive = zip(costs, nonzeros(sparse_of(training)), strict=True)
    left = sum(cost.macs / cost.numel * count for cost, count in alive)
    assert part * dense - max(cost.macs / cost.numel for cost in costs) <= left <= part * dense * (1 + 1e-12)
    assert training.method.at_target


def test_a_budget_is_ramped(tiny_trial: TinyTrial) -> None:
    spec = tiny_trial(sparsity={"target": None, "ramp": {"start": 0.0, "end": 1.0}}, gflops={"target": 2e-6})
    training = start(spec)
    costs = layer_costs(training.net, (1, 6, 6))
    dense = sum(cost.macs for cost in costs)
    training.method.refresh(0.5, training.weights)
    asked = dense - (dense - 2000) * (1 - 0.5**3)
    alive = zip(costs, nonzeros(sparse_of(training)), strict=True)
    assert sum(cost.macs / cost.numel * count for cost, count in alive) == pytest.approx(asked, abs=36)


def test_a_budget_above_the_dense_model_is_an_error(tiny_trial: TinyTrial) -> None:
    spec = tiny_trial(sparsity={"target": None}, gflops={"target": 1.0})
    with pytest.raises(UserError, match=r"gflops.target: 1 is more than the dense model's"):
        start(spec)


# -- projection to the end of the ramp --------------------------------------------------------------------------


def projected_step_by_step(spec: TrialSettings) -> Training:
    """Train as ``trained`` does, with a projection before the first step and after each."""
    training = start(spec)
    for step in range(STEPS):
        training.method.projected_densities(training.weights)
        training.step(step)
    training.method.projected_densities(training.weights)
    return training


@every_method
def test_a_projection_changes_nothing(tiny_trial: TinyTrial, sparsity: dict[str, Any]) -> None:
    plain, projected = trained(tiny_trial(sparsity=sparsity)), projected_step_by_step(tiny_trial(sparsity=sparsity))
    assert same(projected.weights, plain.weights)
    assert flat(projected.method.state_dict()) == flat(plain.method.state_dict())


@every_method
@pytest.mark.parametrize("steps", [0, 2, 4])
def test_projected_densities_are_those_at_the_end_of_the_ramp(
    tiny_trial: TinyTrial, sparsity: dict[str, Any], steps: int
) -> None:
    method = sparsity["method"]
    training = trained(tiny_trial(sparsity=ramped(sparsity)), steps)
    projected, now = training.method.projected_densities(training.weights), densities(training)
    training.method.refresh(1.0, training.weights)
    final, numels = densities(training), [weight.numel() for weight in training.weights]
    assert (projected is not None) == (method in RAMPED) == (final != now)
    if method in DRAWN:
        off = sum(n * (a - b) for n, a, b in zip(numels, projected or now, final, strict=True))
        assert abs(off) <= ZEROS_OFF[method]
    else:
        assert (projected or now) == final
    assert training.method.projected_densities(training.weights) is None


@every_method
def test_ramp_progress_matches_the_scheduled_sparsity(tiny_trial: TinyTrial, sparsity: dict[str, Any]) -> None:
    spec = tiny_trial(sparsity=ramped(sparsity))
    training = start(spec)
    first, target = training.method.scheduled_sparsity, training.method.target_sparsity
    for step in range(STEPS):
        training.step(step)
        part = spec.ramp_progress((step + 1) / STEPS)
        assert (part is not None) == (sparsity["method"] in RAMPED)
        assert training.method.scheduled_sparsity == pytest.approx(first + (part or 0.0) * (target - first))
    assert training.method.scheduled_sparsity == target


def test_granet_has_no_ramp_where_it_starts_at_its_target(tiny_trial: TinyTrial) -> None:
    shape = {"start": 0.0, "end": 0.5}
    at_once = {"method": "granet", "target": 0.4, "initial_density": 0.5, "ramp": shape}
    assert tiny_trial(sparsity=at_once).ramp_progress(0.25) is None
    assert start(tiny_trial(sparsity=at_once)).method.at_target
    assert tiny_trial(sparsity={**at_once, "target": 0.6}).ramp_progress(0.5) == 1


@pytest.mark.parametrize("steps", [0, 2, 4])
@pytest.mark.parametrize("criterion", ["l1", "sigma"])
def test_projected_densities_of_a_budget_are_those_at_the_end(
    tiny_trial: TinyTrial, criterion: str, steps: int
) -> None:
    sparsity = ramped({"method": "st3", "target": None, "criterion": criterion})
    training = trained(tiny_trial(sparsity=sparsity, gflops={"target": 2e-6}), steps)
    projected = training.method.projected_densities(training.weights)
    training.method.refresh(1.0, training.weights)
    assert projected == densities(training)


# -- the scope --------------------------------------------------------------------------------------------------


@every_method
def test_dense_weights_come_back_bit_by_bit(tiny_trial: TinyTrial, sparsity: dict[str, Any]) -> None:
    training = trained(tiny_trial(sparsity=sparsity))
    for weight in training.weights:
        weight.data.add_(0.01)  # so that θ differs from θ̂ also for methods that keep pruned weights at 0
    before = copies(training.weights)
    with sparse_weights(training.weights, training.method):
        training.loss(0).backward()
        assert same(training.weights, before) == (sparsity["method"] == "dense")
    assert same(training.weights, before)


@every_method
def test_dense_weights_come_back_after_an_exception(tiny_trial: TinyTrial, sparsity: dict[str, Any]) -> None:
    training = trained(tiny_trial(sparsity=sparsity))
    before = copies(training.weights)
    with pytest.raises(KeyboardInterrupt), sparse_weights(training.weights, training.method):
        raise KeyboardInterrupt
    assert same(training.weights, before)
    with sparse_weights(training.weights, training.method):
        pass  # the scope can be opened again
    assert same(training.weights, before)


@every_method
@pytest.mark.parametrize("steps", [0, STEPS])
def test_the_scope_cannot_be_opened_twice(tiny_trial: TinyTrial, sparsity: dict[str, Any], steps: int) -> None:
    training = trained(tiny_trial(sparsity=sparsity), steps)
    before = copies(training.weights)
    with (
        pytest.raises(RuntimeError, match="open already"),
        sparse_weights(training.weights, training.method),
        sparse_weights(training.weights, training.method),
    ):
        pass
    assert same(training.weights, before)
    assert not training.method.in_scope


@every_method
def test_backward_after_the_scope_raises(tiny_trial: TinyTrial, sparsity: dict[str, Any]) -> None:
    training = trained(tiny_trial(sparsity=sparsity))
    with sparse_weights(training.weights, training.method):
        loss = training.loss(0)
    if sparsity["method"] == "dense":  # θ̂ is θ
        loss.backward()
    else:
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


@every_method
@pytest.mark.parametrize("steps", [0, STEPS])
def test_saving_inside_the_scope_raises(
    tiny_trial: TinyTrial, sparsity: dict[str, Any], steps: int, tmp_path: Path
) -> None:
    training = trained(tiny_trial(sparsity=sparsity), steps)
    with sparse_weights(training.weights, training.method), pytest.raises(RuntimeError, match="inside sparse_weights"):
        checkpoint.save(Local(tmp_path), "a.ckpt", {}, training.method)
    assert not list(tmp_path.iterdir())
    checkpoint.save(Local(tmp_path), "a.ckpt", {}, training.method)


# -- hardening and fine-tuning ----------------------------------------------------------------------------------


@every_method
def test_hardening_twice_is_hardening_once(tiny_trial: TinyTrial, sparsity: dict[str, Any]) -> None:
    training = trained(tiny_trial(sparsity=sparsity))
    sparse = sparse_of(training)
    harden(training.weights, training.method)
    assert same(training.weights, sparse)
    fixed = FixedMask(training.weights, training.method.scheduled_sparsity)
    harden(training.weights, fixed)
    assert same(training.weights, sparse)


@every_method
def test_the_hardened_model_is_the_evaluated_one(tiny_trial: TinyTrial, sparsity: dict[str, Any]) -> None:
    training = trained(tiny_trial(sparsity=sparsity))
    x, _ = batch(0)
    with torch.no_grad(), sparse_weights(training.weights, training.method):
        logits, reported = training.net(x), nonzeros(training.weights)
    harden(training.weights, training.method)
    assert nonzeros(training.weights) == reported
    with torch.no_grad():
        assert torch.equal(training.net(x), logits)
        with sparse_weights(training.weights, FixedMask(training.weights, training.method.scheduled_sparsity)):
            assert torch.equal(training.net(x), logits)
            assert nonzeros(training.weights) == reported


@every_method
def test_fine_tuning_keeps_the_mask(tiny_trial: TinyTrial, sparsity: dict[str, Any]) -> None:
    training = trained(tiny_trial(sparsity=sparsity))
    harden(training.weights, training.method)
    training.method = FixedMask(training.weights, training.method.scheduled_sparsity)
    before, alive = copies(training.weights), [weight != 0 for weight in training.weights]
    for step in range(STEPS):  # with the momentum that pruned weights had before hardening
        training.step(step)
    for weights in (training.weights, sparse_of(training)):
        assert all(torch.equal(weight != 0, mask) for weight, mask in zip(weights, alive, strict=True))
    assert not same(training.weights, before)
    assert training.method.at_target
    for weight, mask in zip(training.weights, alive, strict=True):
        assert not weight.grad[~mask].any(), "clipping must see live weights only"  # type: ignore[index]
        assert not training.optimizer.state[weight]["momentum_buffer"][~mask].any(), "it would decay to denormals"
        weight.data.add_(1.0)
    assert all(torch.equal(weight != 0, mask) for weight, mask in zip(sparse_of(training), alive, strict=True))


# -- resuming after an interruption -----------------------------------------------------------------------------


@every_method
@pytest.mark.parametrize("fixed", [False, True])
def test_the_state_of_a_method_passes_through_a_checkpoint(
    tiny_trial: TinyTrial, sparsity: dict[str, Any], fixed: bool, tmp_path: Path
) -> None:
    training, other = trained(tiny_trial(sparsity=sparsity)), start(tiny_trial(sparsity=sparsity))
    if fixed:
        harden(training.weights, training.method)
        training.method = FixedMask(training.weights, training.method.scheduled_sparsity)
        other.method = FixedMask(other.weights, 0.0)
    checkpoint.save(Local(tmp_path), "a.ckpt", training.method.state_dict(), training.method)
    other.method.load_state_dict(checkpoint.load(Local(tmp_path), "a.ckpt"))
    other.weights = training.weights
    for weight in training.weights:
        weight.data.add_(0.01)
    assert same(sparse_of(other), sparse_of(training))
    assert (other.method.scheduled_sparsity, other.method.target_sparsity) == (
        training.method.scheduled_sparsity,
        training.method.target_sparsity,
    )
    assert thresholds_of(other.method) == thresholds_of(training.method)


@every_method
def test_resumed_training_is_bit_identical(
    tiny_trial: TinyTrial, sparsity: dict[str, Any], digits: data.Splits, tmp_path: Path
) -> None:
    spec = tiny_trial(sparsity=sparsity, train={"epochs": 3, "finetune_epochs": 2})
    whole = fit(spec, World(), lambda _: False, tmp_path / "whole", digits)
    for epoch in range(1, 5):
        records: list[dict[str, Any]] = []
        stopped = fit(spec, World(), lambda r, to=records: to.append(r) or True, tmp_path / "parts", digits)  # type: ignore[misc]
        assert (stopped["status"], stopped["epochs"]) == ("stopped", epoch)
        assert [record["epoch"] for record in records] == list(range(1, epoch + 1))
    parts = fit(spec, World(), lambda _: True, tmp_path / "parts", digits)
    assert timeless(parts) == timeless(whole)
    for name in (LAST, BEST):
        a, b = (checkpoint.load(Local(tmp_path / folder), name) for folder in ("whole", "parts"))
        assert flat(a) == flat(b)


@every_method
def test_training_resumed_within_an_epoch_is_bit_identical(
    tiny_trial: TinyTrial, sparsity: dict[str, Any], digits: data.Splits, tmp_path: Path
) -> None:
    """Training is interrupted after every fifth batch, with dropout's generator and batch norm's statistics."""
    model = {"arch": "wide_resnet", "depth": 10, "width": 1, "dropout": 0.3}
    spec = tiny_trial(model=model, sparsity=sparsity, train={"epochs": 2, "batch_size": 16, "finetune_epochs": 1})
    whole = fit(spec, World(), lambda _: False, tmp_path / "whole", digits)
    parts, interruptions = fit_in_pieces(spec, World(), tmp_path / "parts", digits, batches=5)
    assert interruptions == INTERRUPTIONS.get(sparsity["method"], 3 * 8 // 5)
    assert timeless(parts) == timeless(whole)
    for name in (LAST, BEST):
        a, b = (checkpoint.load(Local(tmp_path / folder), name) for folder in ("whole", "parts"))
        assert flat(a) == flat(b)
