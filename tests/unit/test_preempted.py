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
    saved, _ = load_latest(tmp_path / "moved" / LAST, World().device)
    assert saved is not None
    assert (saved["epoch"], saved["step"]) == (1, 3), "asked after each step but an epoch's last, which is its fourth"
    assert records(tmp_path / "moved") == records(tmp_path / "alone")
