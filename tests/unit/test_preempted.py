"""Test that a trial saves within its epoch when it must leave its machine, and resumes with the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from st3sweep import data
from st3sweep.training import saver
from st3sweep.training.checkpoint import load_latest
from st3sweep.training.checkpoint_files import LAST
from st3sweep.training.loop import fit
from st3sweep.training.world import World
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.storage.local import Local


def test_it_saves_within_the_epoch_and_resumes_there(
    tmp_path: Path, tiny_trial: Callable[..., TrialSettings], digits: data.Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saver, "_LISTEN_SECONDS", 0.0)
    trial, asked = tiny_trial(), []

    def leave() -> bool:
        asked.append(True)
        return len(asked) == 6

    def records(folder: Path, **arguments: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        fit(trial, World(), lambda record: bool(found.append({**record, "seconds": 0})), folder, digits, **arguments)
        return found

    with pytest.raises(saver.Preempted):
        records(tmp_path / "moved", leave=leave)
    saved, _ = load_latest(Local(tmp_path / "moved"), LAST, World().device)
    assert saved is not None
    assert (saved["epoch"], saved["step"]) == (1, 3), "asked after each step but an epoch's last, which is its fourth"
    assert records(tmp_path / "moved") == records(tmp_path / "alone")


def test_the_interval_that_wastes_least() -> None:
    """Compare √(2CM) with the least waste on a grid: C/t for saving, t/(2M) for what a loss repeats."""
    cost, between = 2.0, 3600.0

    def waste(seconds: float) -> float:
        return cost / seconds + seconds / (2 * between)

    best = min((step / 10 for step in range(1, 10_000)), key=waste)
    assert saver.best_interval(cost, between) == pytest.approx(best, abs=0.1) == 120.0


def test_the_interval_follows_from_the_measured_checkpoint(
    tmp_path: Path, tiny_trial: Callable[..., TrialSettings], digits: data.Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a loss every 20 ns a checkpoint is due after every step, while the default has one an epoch."""
    saved: list[tuple[int, int]] = []
    save = saver.Saver.save
    monkeypatch.setattr(
        saver.Saver, "save", lambda self, state: (saved.append((state.epoch, state.step)), save(self, state))[1]
    )
    trial = tiny_trial(train={"epochs": 2})
    fit(trial, World(), lambda _: False, tmp_path / "default", digits)
    assert saved == [(1, 0), (2, 0)]
    saved.clear()
    fit(trial, World(), lambda _: False, tmp_path / "short", digits, seconds_between_losses=2e-8)
    assert saved == [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0)], "the first one is measured"
