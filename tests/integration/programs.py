"""Start real sweep programs for tests, watch them through their ledger, and kill them when a test ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from forks import PROJECT, Forked

from st3sweep.training.loop import Diverged, fit
from st3sweep.training.world import World
from st3sweep.trial.recipes import resolve

PATIENCE_SECONDS = 400.0  # a slot starts in half a minute on an idle machine, and in minutes on a loaded one
Running = subprocess.Popen[str] | Forked


@contextmanager
def program(*arguments: str, before: tuple[str, ...] = (), **environment: str) -> Iterator[Running]:
    """Run ``st3sweep ...``; kill everything it started when the block ends.

    A fork, see ``forks.py``; below the command ``before`` ``python -m st3sweep ...``.
    """
    if before:
        words = [*before, sys.executable, "-m", "st3sweep", *arguments]
        with started_process(words, PROJECT, **environment) as started:
            yield started
        return
    with forked("st3sweep", *arguments, folder=PROJECT, **environment) as running:
        yield running


@contextmanager
def forked(*words: str, folder: Path, **environment: str) -> Iterator[Forked]:
    """Run ``words`` in ``folder`` as a fork, see ``forks.py``; kill everything it started when the block ends."""
    running = Forked(words, {**os.environ, **environment}, folder)
    try:
        yield running
    finally:
        _end(running)


@contextmanager
def started_process(command: list[str], folder: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run ``command`` in ``folder``; kill it and everything it started when the block ends."""
    surroundings = {**os.environ, **environment}
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=surroundings
    ) as started:
        try:
            yield started
        finally:
            _end(started)


def _end(running: Running) -> None:
    """Kill a program and everything it started."""
    family = descendants(running.pid)
    running.kill()
    running.wait()
    for process in family:
        if process.is_running():
            process.kill()


def ended(running: Running) -> tuple[int, str]:
    """Wait for the program; return its exit code and output."""
    output = running.communicate(timeout=PATIENCE_SECONDS)[0]
    assert running.returncode is not None
    return running.returncode, output


def descendants(pid: int) -> list[psutil.Process]:
    """Return every process that ``pid`` and its children have started."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def workers(pid: int) -> list[psutil.Process]:
    """Return the processes that train."""
    return [process for process in descendants(pid) if "RayTrainWorker" in command_line(process)]


def command_line(process: psutil.Process) -> str:
    """Return the process's title or command line; empty once it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    """Return the events of one kind in the run's ledger, whole lines only."""
    ledger = run / "ledger.jsonl"
    lines = ledger.read_bytes().split(b"\n")[:-1] if ledger.exists() else []
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def wait_until(condition: Callable[[], Any], running: Running) -> None:
    """Wait until ``condition`` holds, while the program runs."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert running.poll() is None, f"ended early:\n{running.communicate()[0]}"
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)  # to read a ledger takes milliseconds


def epochs_of(run: Path, number: int) -> int:
    """Return how many epochs of the trial have ended."""
    return sum(event["trial"] == number for event in events(run, "epoch"))


def undisturbed(run: Path, folder: Path) -> dict[int, list[dict[str, Any]]]:
    """Train every trial without Ray and without a break, all in this process, last one first; return their records."""
    trained: dict[int, list[dict[str, Any]]] = {}
    for event in reversed(events(run, "trial")):
        records = trained.setdefault(event["trial"], [])

        def report(record: dict[str, Any], records: list[dict[str, Any]] = records) -> bool:
            records.append(json.loads(json.dumps(record)))  # as the ledger has it
            return False

        with suppress(Diverged):
            fit(resolve(event["spec"]), World(), report, folder / str(event["trial"]))
    return trained


def check_nothing_lost(run: Path, folder: Path, statuses: dict[int, str], *, whole: set[int] | None = None) -> None:
    """Check that each trial was chosen once, ended once, and has the epochs and numbers of an undisturbed one.

    ``whole`` are the trials of which every epoch must be there; by default all that have finished.
    """
    done = events(run, "done")
    assert [event["trial"] for event in events(run, "trial")] == sorted(statuses)
    assert {event["trial"]: event["status"] for event in done} == statuses
    assert len(done) == len(statuses)
    alone = undisturbed(run, folder)
    for number in whole or {number for number, status in statuses.items() if status == "finished"}:
        records = [event["record"] for event in events(run, "epoch") if event["trial"] == number]
        assert [timeless(record) for record in records] == [timeless(record) for record in alone[number]]


def timeless(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record without its duration."""
    return {key: value for key, value in record.items() if key != "seconds"}
