"""Test the calibration of STR's start value: the search, the settings of pilots, and the final sparsity."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from compare import timeless
from interruptions import fit_in_pieces
from make_methods import str_
from small_training import start

from st3sweep import data
from st3sweep.sparse.methods.str import calibrate, first_guess, next_start, pilot_settings
from st3sweep.sparse.threshold import global_threshold
from st3sweep.training.checkpoint import previous
from st3sweep.training.loop import fit
from st3sweep.training.pilots import FILE, Pilots
from st3sweep.training.saver import LAST
from st3sweep.training.world import World
from st3sweep.trial.rates import learning_rate, weight_decay
from st3sweep.trial.settings import TrialSettings

TinyTrial = Callable[..., TrialSettings]
TOLERANCE = 0.05


def logistic(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def wanted(tiny_trial: TinyTrial, target: float = 0.7, **overrides: Any) -> TrialSettings:
    return tiny_trial(sparsity={"method": "str", "target": target}, **overrides)


@pytest.mark.parametrize(
    ("tried", "target", "expected"),
    [
        ([(-4.0, 0.5)], logistic(1.0), -4 * math.exp(-1 / 3)),  # the usual slope, -3
        ([(-4.0, 0.5), (-4 * math.exp(-1), logistic(2.0))], logistic(1.0), -4 * math.exp(-1 / 2)),  # measured, -2
        ([(-4.0, 0.5), (-5.0, logistic(0.1))], logistic(0.5), -5 * math.exp(-0.4)),  # the wrong sign: flattest, -1
        ([(-4.0, 0.5), (-4.1, logistic(-9.0))], logistic(0.6), -4 * math.exp(-0.1)),  # the steepest, -6
        ([(-4.0, 0.0)], 0.9, -4 * math.exp(-1)),  # the longest stride
        ([(-4.0, 1.0)], 0.1, -4 * math.exp(1)),
    ],
)
def test_the_next_start_by_hand(tried: list[tuple[float, float]], target: float, expected: float) -> None:
    assert next_start(tried, target) == pytest.approx(expected)


def test_the_search_ends_where_the_sparsity_is_right(tiny_trial: TinyTrial) -> None:
    spec = tiny_trial(
        train={"epochs": 50}, sparsity={"method": "str", "target": 0.9, "calibrate": {"pilot": 0.2, "tolerance": 0.01}}
    )
    calls: list[tuple[float, int]] = []

    def sparsity_of(short: TrialSettings) -> float:
        s_init = short.sparsity.s_init
        calls.append((s_init, short.train.epochs))
        return logistic(4.0 - 1.7 * math.log(-s_init))

    found = calibrate(spec, -30.0, sparsity_of)
    assert logistic(4.0 - 1.7 * math.log(-found)) == pytest.approx(0.9, abs=0.0025)
    assert 2 < len(calls) <= 6
    assert {epochs for _, epochs in calls} == {10}
    assert calls[0][0] == -30


@pytest.mark.parametrize(("whole", "epochs"), [(160, 16), (30, 4), (3, 3)])
def test_a_pilot_is_a_tenth_but_no_shorter_than_four_epochs(tiny_trial: TinyTrial, whole: int, epochs: int) -> None:
    lengths: set[int] = set()
    calibrate(wanted(tiny_trial, train={"epochs": whole}), -5.0, lambda short: lengths.add(short.train.epochs) or 0.0)
    assert lengths == {epochs}


@pytest.mark.parametrize(
    "decay", [{"kind": "constant", "value": 1e-3}, {"kind": "cosine", "value": 1e-3, "final_ratio": 0.1}]
)
def test_a_pilot_shrinks_weights_and_s_as_the_whole_training_does(tiny_trial: TinyTrial, decay: dict[str, Any]) -> None:
    schedule = {"kind": "step", "milestones": [{"epochs": 20}, 0.75], "warmup": {"epochs": 4}}
    settings = {"train": {"epochs": 40, "finetune_epochs": 2, "bn_recalibration": 1}}
    spec = wanted(tiny_trial, optim={"weight_decay": decay, "schedule": schedule}, **settings)
    short = pilot_settings(spec, 4, -12.5)

    def total(spec: TrialSettings, decayed: bool) -> float:
        steps = spec.train.epochs * 1000
        return sum(
            learning_rate(spec, step, steps) * (weight_decay(spec, step, steps, 0.0) if decayed else 1.0)
            for step in range(steps)
        )

    assert total(short, True) == pytest.approx(total(spec, True), rel=1e-3)
    ratios: Any = short.sparsity
    assert total(short, False) * ratios.s_lr_ratio == pytest.approx(total(spec, False), rel=1e-3), "gradient of s"
    assert total(short, True) * ratios.s_lr_ratio * ratios.s_decay_ratio == pytest.approx(total(spec, True), rel=1e-3)
    assert (short.train.epochs, short.train.finetune_epochs, short.train.bn_recalibration) == (4, 0, 0)
    assert (ratios.s_init, ratios.target) == (-12.5, None)
    assert TrialSettings.model_validate(short.model_dump()) == short


def test_a_pilot_takes_its_weight_decay_from_the_table(tiny_trial: TinyTrial) -> None:
    spec = wanted(
        tiny_trial,
        0.98,
        model={"arch": "resnet50"},
        data={"dataset": "cifar10", "root": "."},
        train={"epochs": 40},
        optim={"weight_decay": {"kind": "by_target"}},
    )
    assert pilot_settings(spec, 10, -1.0).optim.weight_decay.model_dump() == {"kind": "constant", "value": 4e-5}


def test_the_first_guess_decays_to_the_needed_threshold(tiny_trial: TinyTrial) -> None:
    decay = {"kind": "constant", "value": 1e-3}
    spec = wanted(tiny_trial, optim={"weight_decay": decay}, train={"epochs": 10})
    weights = start(spec).weights
    guess = first_guess(spec, weights, 100)
    method = str_(weights, s_init=guess, momentum=0.9)
    for step in range(1000):
        method.s.grad = torch.zeros_like(method.s)
        method.step_own_parameters(learning_rate(spec, step, 1000), 1e-3)
    needed = torch.logit(global_threshold(weights, 0.7))
    torch.testing.assert_close(method.s, needed.expand(4), rtol=0.02, atol=0)
    assert guess < 1.5 * needed


@pytest.mark.parametrize("target", [0.7, 0.8, 0.9])
def test_the_outcome_is_within_the_tolerance(
    tiny_trial: TinyTrial, digits: data.Splits, tmp_path: Path, target: float
) -> None:
    spec = wanted(tiny_trial, target, train={"epochs": 12, "finetune_epochs": 1})
    records: list[dict[str, Any]] = []
    result = fit(spec, World(), lambda record: bool(records.append(record)), tmp_path, digits)  # type: ignore[func-returns-value]
    assert result["sparsity"] == pytest.approx(target, abs=TOLERANCE)
    for record in records[:11]:
        assert record["at_target"] == (abs(record["sparsity"] - target) <= TOLERANCE)
    assert records[11]["at_target"]
    assert records[12]["at_target"]
    assert [record["ratio"] for record in records] == [target] * 13
    found = json.loads((tmp_path / FILE).read_text())
    assert 1 <= len(found["pilots"]) <= 6
    assert sum(each["seconds"] for each in found["pilots"]) < result["wall_seconds"]
    spent = sum(each["training_gflops"] for each in found["pilots"])
    assert 0 < spent < result["training_gflops"]
    assert not (tmp_path / "pilots").exists()
    for checkpoint in (tmp_path / LAST, tmp_path / previous(LAST)):
        checkpoint.unlink()
    for pilot in found["pilots"]:
        pilot["training_gflops"] = 0.0
    (tmp_path / FILE).write_text(json.dumps(found))
    again = fit(spec, World(), lambda _: False, tmp_path, digits)
    assert again["training_gflops"] == pytest.approx(result["training_gflops"] - spent), "pilots are charged for"
    again["training_gflops"] = result["training_gflops"]
    assert timeless(again) == timeless(result), "no pilot trains twice"


def test_a_recorded_pilot_answers_for_its_own_settings_only(
    tiny_trial: TinyTrial, digits: data.Splits, tmp_path: Path
) -> None:
    asked: list[float] = []

    def train(settings: TrialSettings, *_: Any) -> dict[str, Any]:
        asked.append(settings.sparsity.s_init)
        return {"sparsity": 0.5, "wall_seconds": 1.0, "training_gflops": 2.0}

    spec = wanted(tiny_trial)
    for starts, trained in (([-5.0, -4.0], [-5.0, -4.0]), ([-5.0, -4.0], []), ([-5.0, -3.0], [-3.0])):
        pilots = Pilots(train, World(), tmp_path, digits)
        assert [pilots(pilot_settings(spec, 4, start)) for start in starts] == [0.5] * 2
        assert (pilots.seconds, pilots.training_gflops) == (2.0, 4.0)
        assert asked == trained
        asked.clear()
    rows = json.loads((tmp_path / FILE).read_text())["pilots"]
    assert [row["settings"]["s_init"] for row in rows] == [-5.0, -3.0]


def test_an_interrupted_calibration_resumes(tiny_trial: TinyTrial, digits: data.Splits, tmp_path: Path) -> None:
    spec = tiny_trial(sparsity={"method": "str", "target": 0.7, "calibrate": {"runs": 2, "tolerance": 1e-3}})
    whole = fit(spec, World(), lambda _: False, tmp_path / "whole", digits)
    parts, interruptions = fit_in_pieces(spec, World(), tmp_path / "parts", digits, batches=5)
    assert interruptions == 3 * 3 * 4 // 5
    assert timeless(parts) == timeless(whole)
    a, b = (json.loads((tmp_path / name / FILE).read_text()) for name in ("whole", "parts"))
    assert [each["sparsity"] for each in a["pilots"]] == [each["sparsity"] for each in b["pilots"]]
    assert a["s_init"] == b["s_init"]
