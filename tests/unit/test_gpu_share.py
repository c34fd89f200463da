"""Test how trials share a GPU: their shares of it, of its memory and of its time, and what ends when it fails."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from st3sweep import data
from st3sweep.execution import mps, worker
from st3sweep.execution.mps import LOGS, PIPES, multi_process_service
from st3sweep.execution.reporter import Reporter
from st3sweep.networks import build_model
from st3sweep.space.loading import load_space
from st3sweep.space.resources import MPS_CLIENTS, Resources, count_slots
from st3sweep.space.sample_points import largest_trials
from st3sweep.training import gpu_memory
from st3sweep.training.gpu_memory import Memory, allocatable, is_usable, rehearse, trials_that_fit
from st3sweep.training.world import World
from st3sweep.trial.settings import TrialSettings

TinyTrial = Callable[..., TrialSettings]
GB = 10**9


@pytest.mark.parametrize("trials", range(1, MPS_CLIENTS + 1))
def test_as_many_trials_as_asked_for_fit_on_a_gpu_and_no_more(trials: int) -> None:
    """Ray rounds to ten-thousandths of a GPU: six of 0.1667 would not fit."""
    resources = Resources(gpus_per_worker=1, trials_per_gpu=trials)
    asked = round(resources.of_worker()["GPU"] * 10_000)
    assert trials * asked <= 10_000 < (trials + 1) * asked
    assert count_slots({"CPU": 200.0, "GPU": 2.0}, resources) == 2 * trials
    assert trials * resources.gpus == pytest.approx(1)


def test_shares_of_other_resources() -> None:
    assert Resources(gpus_per_worker=0.25).gpu_share == 0.25
    assert Resources(gpus_per_worker=1, workers=2, trials_per_gpu=1).gpus == 2
    undecided = Resources(gpus_per_worker=1, trials_per_gpu="auto")
    assert (undecided.gpu_share, undecided.with_trials_per_gpu(5).gpu_share) == (1, 0.2)


@pytest.mark.parametrize(
    ("asked", "share"),
    [
        ({"gpus_per_worker": 0}, False),
        ({"gpus_per_worker": 1}, False),
        ({"gpus_per_worker": 0.5}, True),
        ({"gpus_per_worker": 1, "trials_per_gpu": 1}, False),
        ({"gpus_per_worker": 1, "trials_per_gpu": 2}, True),
        ({"gpus_per_worker": 1, "trials_per_gpu": "auto"}, True),
    ],
)
def test_trials_share_a_gpu_where_one_has_a_part_of_it(asked: dict[str, Any], share: bool) -> None:
    assert Resources(**asked).may_share_gpus == share


@pytest.mark.parametrize(
    ("trial", "total", "trials"),
    [(10 * GB, 80 * GB, 7), (19 * GB, 80 * GB, 4), (20 * GB, 80 * GB, 3), (GB, 80 * GB, 8), (79 * GB, 80 * GB, 1)],
)
def test_trials_that_fit_by_memory(trial: int, total: int, trials: int) -> None:
    assert trials_that_fit(Memory(trial, total)) == trials


def test_memory_in_words() -> None:
    assert f"{Memory(2_340_000_000, 85 * GB)}" == "2.3 of a GPU's 85.0 GB"


@given(st.integers(1, MPS_CLIENTS), st.integers(4 << 30, 200 << 30))
def test_processes_leave_room_for_each_other_and_for_their_contexts(trials: int, total: int) -> None:
    allowed = allocatable(1 / trials, total)
    assert 0 < allowed <= 1 / trials
    if total / trials > 2 << 30:
        assert trials * (allowed * total + (1 << 29)) <= total * (1 + 1e-9)


def test_a_rehearsal_tells_what_a_checkpoint_copies(tiny_trial: TinyTrial, digits: data.Splits) -> None:
    """All parameters twice, with their momenta, and the buffers."""
    spec, before = tiny_trial(), digits.train.fetch(torch.arange(3), 0, 0, True).clone()
    model = build_model(spec.model, digits.num_classes, 1)
    expected = sum(4 * p.numel() for p in model.parameters()) + sum(
        tensor.numel() * tensor.element_size() for tensor in model.state_dict().values()
    )
    assert rehearse(spec, torch.device("cpu"), digits) == expected
    assert torch.equal(digits.train.fetch(torch.arange(3), 0, 0, True), before)


def test_the_trials_with_the_largest_batches_are_measured(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(
        "schema: st3sweep/v1\nname: x\n"
        "trial: {model: {arch: cifar_resnet, depth: 8}, data: {dataset: digits, image_size: 8},"
        " sparsity: {method: st3}}\n"
        "search:\n  train.batch_size: {choice: [32, 16, 128, 64, 8]}\n  sparsity.target: {choice: [0.5, 0.9]}\n"
        "searcher: {sampler: grid}\n"
    )
    assert [trial.train.batch_size for trial in largest_trials(load_space(file))] == [128, 64, 32, 16]


# -- the Multi-Process Service ------------------------------------------------------------------------------------

DAEMON = """\
#!/bin/sh
# Stands in for nvidia-cuda-mps-control: its daemon is a file in the folder of the pipes.
if [ "$1" = -d ]; then
    [ -n "$REFUSES" ] && { echo "no permission" >&2; exit 1; }
    echo started >> "$LOG"
    touch "$CUDA_MPS_PIPE_DIRECTORY/control"
    exit 0
fi
read command
[ -e "$CUDA_MPS_PIPE_DIRECTORY/control" ] || { echo "Cannot find MPS control daemon process"; exit 1; }
echo "$command" >> "$LOG"
"""


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install the stand-in; yields the file in which it notes what it did."""
    program = tmp_path / "bin" / mps.CONTROL
    program.parent.mkdir()
    program.write_text(DAEMON)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    (tmp_path / "log").touch()
    for name in (PIPES, LOGS):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path / "log"
    assert not os.environ.keys() & {PIPES, LOGS}, "what was set is removed"


def test_a_daemon_is_started_for_the_program_and_ended_with_it(control: Path) -> None:
    said: list[str] = []
    with suppress(ZeroDivisionError), multi_process_service(said.append) as there:
        folder = Path(os.environ[PIPES])
        assert (there, os.environ[LOGS], (folder / "control").exists()) == (True, str(folder), True)
        assert len(str(folder)) < 40, "it holds sockets"
        1 / 0  # noqa: B018
    assert control.read_text().split() == ["started", "quit"]
    assert (said, folder.exists()) == ([], False)


def test_a_daemon_is_ended_by_an_interrupt_while_it_starts(control: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = mps._asked

    def interrupted(program: str, command: str | None) -> str:
        said = asked(program, command)
        if command is None:
            raise KeyboardInterrupt
        return said

    monkeypatch.setattr(mps, "_asked", interrupted)
    with pytest.raises(KeyboardInterrupt), multi_process_service(print):
        raise AssertionError("the block must not begin")
    assert control.read_text().split() == ["started", "quit"]


def test_a_daemon_that_runs_already_is_used_and_left_running(
    control: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "control").touch()
    with monkeypatch.context() as patch:
        patch.setenv(PIPES, str(tmp_path))
        with multi_process_service(print) as there:
            assert (there, os.environ[PIPES]) == (True, str(tmp_path))
    assert control.read_text().split() == ["get_server_list"]


def test_without_the_service_it_is_said_why(control: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with monkeypatch.context() as patch:
        patch.setenv("REFUSES", "yes")
        with multi_process_service(said.append) as there:
            assert not there
            assert PIPES not in os.environ
    monkeypatch.setenv("PATH", "/usr/none")
    with multi_process_service(said.append) as there:
        assert not there
    turns = "trials on one GPU take turns: nvidia-cuda-mps-control"
    assert said == [f"{turns} -d: no permission", f"{turns} is not installed"]
    assert control.read_text() == ""


# -- failures -----------------------------------------------------------------------------------------------------


def failing(
    monkeypatch: pytest.MonkeyPatch, tiny_trial: TinyTrial, tmp_path: Path, error: Exception, *, usable: bool
) -> tuple[list[dict[str, Any]], bool]:
    """Return what a worker reports of a trial that raises ``error``, and whether it ends."""

    def fit(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(worker, "fit", fit)
    monkeypatch.setattr(worker, "_load", lambda *_: None)
    monkeypatch.setattr(worker, "is_usable", lambda _: usable)
    messages: list[dict[str, Any]] = []
    reporter = Reporter(lambda _, sent: bool(messages.extend(sent)))
    job = {"spec": tiny_trial().model_dump(mode="json"), "folder": str(tmp_path), "store": None}
    try:
        worker._run(job, reporter, World(device=torch.device("cuda", 0)), None, None, None)
    except type(error):
        return messages, True
    return messages, False


def test_a_broken_gpu_ends_the_process_and_not_the_trial(
    monkeypatch: pytest.MonkeyPatch, tiny_trial: TinyTrial, tmp_path: Path
) -> None:
    """Nothing is reported: the mailbox gives the open trial to the next process, which resumes it."""
    error = RuntimeError("CUDA error: an illegal memory access was encountered")
    assert failing(monkeypatch, tiny_trial, tmp_path, error, usable=False) == ([], True)


def test_an_error_of_a_trial_stays_with_it(
    monkeypatch: pytest.MonkeyPatch, tiny_trial: TinyTrial, tmp_path: Path
) -> None:
    """Without memory the process continues; after another error a new one starts, as the device may have suffered."""
    for error, ends in ((torch.OutOfMemoryError("2 GiB"), False), (ValueError("2 GiB"), True)):
        messages, ended = failing(monkeypatch, tiny_trial, tmp_path, error, usable=True)
        assert messages == [{"status": "failed", "error": f"{type(error).__name__}: 2 GiB"}]
        assert ended == ends


def test_a_device_that_raises_is_not_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(_: Any) -> None:
        raise RuntimeError("CUDA error")

    assert is_usable(torch.device("cpu"))
    monkeypatch.setattr(gpu_memory.torch.cuda, "synchronize", raises)
    assert not is_usable(torch.device("cuda"))
    monkeypatch.setattr(gpu_memory.torch.cuda, "synchronize", lambda _: None)
    assert is_usable(torch.device("cuda"))


def test_a_process_is_kept_within_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []
    monkeypatch.setattr(gpu_memory.torch.cuda, "mem_get_info", lambda _: (0, 8 << 30))
    monkeypatch.setattr(gpu_memory.torch.cuda, "set_per_process_memory_fraction", lambda part, _: limits.append(part))
    for share in (1.0, 0.25, 0.05):
        gpu_memory.limit(share, torch.device("cuda"))
    gpu_memory.limit(0.25, torch.device("cpu"))
    assert limits == [0.25 - 1 / 16, 0.025]
