"""Test that checkpoints written while training continues hold the state of their moment, in order, and tell errors."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from st3sweep import data
from st3sweep.sparse import flat
from st3sweep.sparse.method import sparse_weights
from st3sweep.training import checkpoint
from st3sweep.training.loop import start
from st3sweep.training.saver import BEST, LAST, Saver
from st3sweep.training.state import State
from st3sweep.training.world import World
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.storage.local import Local


@pytest.fixture
def state(tiny_trial: Callable[..., TrialSettings], digits: data.Splits, monkeypatch: pytest.MonkeyPatch) -> State:
    monkeypatch.setattr(flat, "launch_bound", lambda _: True)
    return start(tiny_trial(), World(), digits)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Return what each write waits for."""
    opened, write = threading.Event(), checkpoint.save

    def save(*arguments: Any, **settings: Any) -> None:
        assert opened.wait(10)
        write(*arguments, **settings)

    monkeypatch.setattr(checkpoint, "save", save)
    return opened


def saver(folder: Path) -> Saver:
    return Saver(Local(folder), World(), 60.0, {"channels": 1}, keep_previous=True)


def test_files_hold_the_state_of_their_moment(state: State, gate: threading.Event, tmp_path: Path) -> None:
    with saver(tmp_path) as writer:
        expected = {name: value.clone() for name, value in state.model.state_dict().items()}
        state.epoch = 1
        writer.save_best(state)
        writer.save(state)
        assert not list(tmp_path.iterdir()), "training continues while they are written"
        with torch.no_grad():
            for parameter in state.model.parameters():
                parameter.add_(1.0)
        state.history.append({"epoch": 1})
        state.epoch = 2
        gate.set()
        writer.save(state)
    for name in (BEST, f"{LAST}.previous"):
        saved = checkpoint.load(Local(tmp_path), name)
        assert saved["model"].keys() == expected.keys()
        assert all(torch.equal(value, expected[key]) for key, value in saved["model"].items())
    assert (saved["epoch"], saved["history"]) == (1, [])
    last = checkpoint.load(Local(tmp_path), LAST)
    assert (last["epoch"], last["history"]) == (2, [{"epoch": 1}])
    name = next(name for name, _ in state.model.named_parameters())
    assert torch.equal(last["model"][name], expected[name] + 1.0)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("checkpoint")]


def test_an_error_while_writing_is_raised_by_a_later_call(state: State, tmp_path: Path) -> None:
    (tmp_path / LAST / "in the way").mkdir(parents=True)

    def failing(saves: int, then: Callable[[], Any]) -> None:
        with saver(tmp_path) as writer:
            for _ in range(saves):
                writer.keep_previous = False
                writer.save(state)
            writer.save_best(state)
            then()

    with pytest.raises(OSError, match=r"last\.ckpt"):
        failing(3, lambda: pytest.fail("the third waits for the first"))
    assert not (tmp_path / BEST).exists()
    with pytest.raises(OSError, match=r"last\.ckpt"):
        failing(1, lambda: None)
    with pytest.raises(ZeroDivisionError):
        failing(1, lambda: 1 / 0)
    assert (tmp_path / BEST).is_file()


def test_saving_inside_the_scope_raises_at_once(state: State, tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="inside sparse_weights"),
        saver(tmp_path) as writer,
        sparse_weights(state.weights, state.method),
    ):
        writer.save(state)
    assert not list(tmp_path.iterdir())
