"""Test the disk that the plan says a sweep's checkpoints need."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from st3sweep import data
from st3sweep.commands.disk import disk
from st3sweep.space.loading import load_space
from st3sweep.space.space import Space
from st3sweep.training.checkpoint_files import BEST, LAST, PREVIOUS
from st3sweep.training.checkpoint_size import checkpoint_size
from st3sweep.training.loop import fit
from st3sweep.training.world import World
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.text import format_bytes

WIDE = {"arch": "cifar_resnet", "depth": 8, "width": 16}


@pytest.mark.parametrize(
    "changes",
    [
        {"sparsity": {"method": "st3", "target": 0.8}},
        {"sparsity": {"method": "rigl", "target": 0.8}},
        {"sparsity": {"method": "st3", "target": 0.8}, "optim": {"momentum": 0.0}},
    ],
    ids=["st3", "rigl", "no momentum"],
)
def test_the_size_is_that_of_the_files_of_a_training(
    changes: dict[str, Any], tiny_trial: Callable[..., TrialSettings], digits: data.Splits, tmp_path: Path
) -> None:
    spec = tiny_trial(model=WIDE, train={"epochs": 2}, **changes)
    fit(spec, World(), lambda _: False, tmp_path, digits)
    size = checkpoint_size(spec, 10, 1)
    written = {name: (tmp_path / name).stat().st_size for name in (LAST, PREVIOUS, BEST)}
    assert size.best == pytest.approx(written[BEST], rel=0.03)
    assert size.last == pytest.approx(written[LAST], rel=0.03)
    assert size.all == pytest.approx(sum(written.values()), rel=0.03)


def test_fine_tuning_adds_the_fixed_mask(
    tiny_trial: Callable[..., TrialSettings], digits: data.Splits, tmp_path: Path
) -> None:
    spec = tiny_trial(model=WIDE, train={"epochs": 2, "finetune_epochs": 1})
    fit(spec, World(), lambda _: False, tmp_path, digits)
    size, last = checkpoint_size(spec, 10, 1), (tmp_path / LAST).stat().st_size
    assert size.last == pytest.approx(last, rel=0.03)
    assert size.last > 1.05 * (tmp_path / PREVIOUS).stat().st_size, "the epoch before had no fixed mask"
    assert size.best > (tmp_path / BEST).stat().st_size, "the best may be one with it; here it is not"


SPACE = """\
schema: st3sweep/v1
name: disk
trial:
  model: {arch: cifar_resnet, depth: 8, width: 16}
  data: {dataset: digits, image_size: 8}
  train: {epochs: 4, batch_size: 64}
  sparsity: {method: st3}
search:
  sparsity.target: {float: [0.5, 0.98]}
searcher: {sampler: random}
"""


def said(folder: Path, more: str) -> tuple[list[str], TrialSettings, Space]:
    (folder / "space.yaml").write_text(SPACE + more)
    space = load_space(folder / "space.yaml")
    trial = space.trial_for({"sparsity.target": 0.5})
    return disk(space, [trial], 10, 1).split("; "), trial, space


def test_the_plan_says_what_each_setting_needs(tmp_path: Path) -> None:
    parts, trial, _ = said(tmp_path, "budget: {trials: 1000}")
    size = checkpoint_size(trial, 10, 1)
    b, three = size.best, 2 * size.last + size.best
    assert parts == [
        f"{format_bytes(three)} a running trial",
        f"with checkpoints: finished {format_bytes(b)} a trial, {format_bytes(1000 * b)} in all",
        f"front {format_bytes(b)} a trial of the front",
        f"all {format_bytes(three)} a trial, {format_bytes(1000 * three)} in all",
    ]


def test_stopped_trials_and_an_unknown_number_of_trials(tmp_path: Path) -> None:
    stops = "early_stopping: {name: ramp_pareto}\n"
    parts, trial, _ = said(tmp_path, f"{stops}budget: {{trials: 1000}}")
    size = checkpoint_size(trial, 10, 1)
    both = size.last + size.best
    assert parts[1] == (
        f"with checkpoints: finished {format_bytes(size.best)} a trial, {format_bytes(both)} if stopped early, "
        f"at most {format_bytes(1000 * both)} in all"
    )
    parts, trial, _ = said(tmp_path, "budget: {wall: 1h}\nresources: {checkpoints: front}")
    assert parts[1:] == [
        f"with checkpoints: front {format_bytes(size.best)} a trial of the front",
        f"finished {format_bytes(size.best)} a trial",
        f"all {format_bytes(size.all)} a trial",
    ]


def test_the_interval_of_checkpoints_where_machines_are_taken_away(tmp_path: Path) -> None:
    """Two workers on two machines, each lost every two hours: one is lost every hour."""
    limits = "budget: {trials: 4}\nresources: {workers: 2, preemptions_per_hour: 0.5}"
    text = said(tmp_path, limits)[0][-1]
    found = re.fullmatch(
        r"one within an epoch every ([\d.]+) s, if it takes ([\d.]+) s as here and a machine is lost every 1.00 h", text
    )
    assert found is not None, text
    every, took = map(float, found.groups())
    assert every == pytest.approx((2 * took * 3600) ** 0.5, abs=0.06 + 0.0002 * 3600 / every)
