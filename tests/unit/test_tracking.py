"""Test logging to other tools: what TensorBoard's files hold, and that a failing logger cannot harm a sweep."""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from driven_sweep import SPACE, Run, epoch, finish, statuses, top1
from ray.tune.logger import LoggerCallback, TBXLoggerCallback
from tensorboardX.proto.event_pb2 import Event
from test_cli import st3sweep

from st3sweep.execution import loggers as tracking
from st3sweep.execution import runner
from st3sweep.execution.loggers import Tracking
from st3sweep.reporting.json_events import JsonEvents
from st3sweep.sweep.state import Sweep

RunOf = Callable[[str], Run]


def tracked(run: Run, names: list[str], said: list[str] | None = None) -> Sweep:
    say = [].append if said is None else said.append
    return Sweep(run.space, run.folder, JsonEvents(None, io.StringIO()), Tracking(names, run.folder, say))


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    """Return (step, value) of ``tag`` in the folder's event files. A record is length, checksum, event, checksum."""
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + length])
            found += [(event.step, value.simple_value) for value in event.summary.value if value.tag == tag]
            at += 16 + length
    return found


def test_tensorboard_has_every_epoch_of_every_trial(run_of: RunOf, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000_000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    run = run_of("budget: {trials: 2}")
    first = tracked(run, ["tensorboard"])
    trial = first.next_trial()
    assert trial is not None
    first.record(0, epoch(trial, 1))
    first.close()
    now[0] += 60.0  # files are named by the second
    second = tracked(run, ["tensorboard"])
    finish(second)
    second.close()
    for trial in second.ledger.trials.values():
        folder = run.folder / "trials" / f"{trial.number:04d}"
        found = scalars(folder, "ray/tune/val_top1")
        assert found == [(step, pytest.approx(top1(trial))) for step in (1, 2, 3, 4)]
        assert len(scalars(folder, "ray/tune/sparsity")) == 4


def test_a_logger_that_fails_is_disabled_and_the_sweep_continues(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: Any) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(TBXLoggerCallback, "log_trial_result", breaks)
    said: list[str] = []
    sweep = tracked(run_of("budget: {trials: 3}"), ["tensorboard"], said)
    finish(sweep)
    sweep.close()
    assert statuses(sweep) == ["finished"] * 3
    assert said == ["--track tensorboard: disabled, the sweep continues (ConnectionError: no route to host)"]


def test_a_logger_that_cannot_start_is_disabled(run_of: RunOf, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: Any) -> None:
        raise ValueError("no key")

    monkeypatch.setattr(TBXLoggerCallback, "setup", refuses)
    said: list[str] = []
    run = run_of("budget: {trials: 1}")
    sweep = tracked(run, ["tensorboard"], said)
    finish(sweep)
    sweep.close()
    assert said == ["--track tensorboard: disabled, the sweep continues (ValueError: no key)"]
    assert not list(run.folder.glob("trials/*/events*"))


class Told(LoggerCallback):
    """A logger that keeps the calls it receives."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def log_trial_start(self, trial: Any) -> None:
        assert Path(trial.local_path).is_dir()
        self.events.append(("start", trial.trial_id))

    def log_trial_result(self, _: int, trial: Any, result: dict[str, Any]) -> None:
        self.events.append(("result", trial.config["optim.lr"], result["training_iteration"]))

    def log_trial_end(self, _: Any, failed: bool = False) -> None:
        self.events.append(("end", failed))

    def on_experiment_end(self, **_: Any) -> None:
        self.events.append(("over",))


def test_calls_that_loggers_receive(run_of: RunOf, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    monkeypatch.setattr(tracking, "_logger", lambda *_: told)
    run = run_of("budget: {trials: 3}")
    tracked(run, ["mlflow"]).close()
    assert told.events == [], "no trial ran: Ray may be absent"
    sweep = tracked(run, ["mlflow"])
    trials = [sweep.next_trial() for _ in range(3)]
    for trial in trials:
        assert trial is not None
    sweep.record(0, {"status": "failed", "error": "nan"})
    sweep.lost(1, "the machine is gone")
    again = sweep.next_trial()
    assert again is trials[1]
    sweep.record(1, epoch(again, 1))
    sweep.tracking.epoch(sweep.ledger.trials[0], {"epoch": 9})  # type: ignore[union-attr]  # over: it is not raised
    sweep.end_tracking()
    sweep.close()
    starts = [event[1] for event in told.events[:3]]
    assert len(set(starts)) == 3
    assert all(start.startswith("run-") and start.endswith(f"-{number:04d}") for number, start in enumerate(starts))
    assert told.events[3:] == [
        ("end", True), ("result", again.params["optim.lr"], 1), ("end", False), ("end", False), ("over",),
    ]  # fmt: skip


@pytest.mark.parametrize("interrupted", [False, True])
def test_loggers_end_while_ray_is_running(run_of: RunOf, monkeypatch: pytest.MonkeyPatch, interrupted: bool) -> None:
    told, run = Told(), run_of("budget: {trials: 2}")

    @contextmanager
    def cluster(*_: Any, **__: Any) -> Iterator[tuple[Any, int]]:
        try:
            yield run.space.config.resources, 1
        finally:
            told.events.append(("Ray ends",))

    def run_slots(sweep: Sweep, slots: int, plugins: Sequence[str], store: str | None) -> None:
        sweep.next_trial()
        if interrupted:
            raise KeyboardInterrupt

    monkeypatch.setattr(tracking, "_logger", lambda *_: told)
    monkeypatch.setattr(runner, "cluster", cluster)
    monkeypatch.setattr(runner, "run_slots", run_slots)
    with runner.sweep(run.space, run.folder, None, JsonEvents(None, io.StringIO()), track=["wandb"]):
        pass
    assert told.events[1:] == [("end", False), ("over",), ("Ray ends",)]


def test_trials_of_two_runs_do_not_share_an_id(run_of: RunOf, tmp_path: Path) -> None:
    run = run_of("budget: {trials: 1}")
    trial = run.program().next_trial()
    assert trial is not None
    here, there = (tracking._AsTuneTrial(trial, tmp_path / place / "study") for place in ("a", "b"))
    assert here.trial_id != there.trial_id
    assert here.trial_id == tracking._AsTuneTrial(trial, tmp_path / "a" / "study").trial_id, "the same when resumed"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("comet", "--track comet: allowed: tensorboard, mlflow, wandb"),
        ("mlflow", "--track mlflow: needs the package mlflow; pip install 'st3sweep[mlflow]'"),
    ],
)
def test_unknown_or_uninstalled_loggers_are_refused_first(
    name: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    (tmp_path / "space.yaml").write_text(SPACE + "budget: {trials: 2}")
    runs = tmp_path / "runs"
    code, said, error = st3sweep(capsys, "run", tmp_path / "space.yaml", "--storage", runs, "--track", name)
    assert (code, said, error) == (2, "", f"st3sweep: {why}\n")
    assert not runs.exists()
    assert "mlflow" not in sys.modules
