"""A sweep from a checked space to its results: starts Ray, runs Tune over warm slots, keeps the ledger, resumes."""

from __future__ import annotations

import fcntl
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import ray
import yaml
from pydantic import ValidationError
from ray import tune
from ray.tune.search import Searcher as TuneSearcher
from rich.console import Console

from st3sweep.errors import UserError
from st3sweep.plan import expected_trials
from st3sweep.run_folder import trial_folder
from st3sweep.space import Resources, Space
from st3sweep.sweep.ledger import Ledger, Trial, finite_values, objective_values, write_tables
from st3sweep.sweep.progress import Progress
from st3sweep.sweep.search import Exhausted, Searcher
from st3sweep.sweep.slot import SlotTrainable

TABLE_INTERVAL_SECONDS = 5.0
TUNE_ACTOR_CPUS = 0.01  # Tune refuses 0


def sweep(space: Space, folder: Path, address: str | None, console: Console) -> bool:
    """Run what is left of the run in ``folder``; True when nothing is, False when it was interrupted."""
    with lock(folder), Progress(expected_trials(space), console) as progress:
        run = Sweep(space, folder, progress)
        progress.resumed([trial for trial in run.ledger.trials.values() if trial.status != "running"])
        if run.is_complete():
            return True
        try:
            with cluster(address, space.spec.resources) as slots:
                run_tune(run, slots)
        finally:
            run.write_tables(now=True)
            run.ledger.close()
        return run.is_complete()


@contextmanager
def lock(folder: Path) -> Iterator[IO[str]]:
    """Hold the run's folder; a second program on it is refused. The lock goes with the process, however it ends."""
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder}: another program is running this sweep") from None
        yield file


@contextmanager
def cluster(address: str | None, resources: Resources) -> Iterator[int]:
    """Connect to ``address``, or start Ray here; yields how many slots fit (see ``count_slots``)."""
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address is None:
        # Workers beyond the cores are allowed here, where a person tries things: they share them. One CPU more than
        # that, since Tune's own actors ask for a hundredth each.
        cpus = max(os.cpu_count() or 1, resources.workers * resources.cpus_per_worker)
        ray.init(address="local", num_cpus=cpus + 1, include_dashboard=False, **quiet)
        available = {**ray.cluster_resources(), "CPU": float(cpus)}
    else:
        ray.init(address=address, **quiet)
        available = ray.cluster_resources()
    try:
        yield count_slots(available, resources, grows=address is not None)
    finally:
        ray.shutdown()


def count_slots(available: dict[str, float], resources: Resources, *, grows: bool = False) -> int:
    """How many trials run at a time: ``resources.slots``, or as many as fit into ``available`` CPUs and GPUs.

    Raises UserError where not one fits; a cluster that ``grows`` may start machines for the slots that are asked for.
    """
    if grows and resources.slots:
        return resources.slots
    cpus = resources.workers * resources.cpus_per_worker
    gpus = resources.workers * resources.gpus_per_worker
    # On a cluster Tune's actors take their share of its CPUs: without it the last slot would wait for ever.
    fitting = math.floor(available.get("CPU", 0.0) / (cpus + (TUNE_ACTOR_CPUS if grows else 0.0)))
    if gpus:
        fitting = min(fitting, math.floor(available.get("GPU", 0.0) / gpus))
    if fitting < 1:
        has = f"{available.get('CPU', 0.0):g} CPUs and {available.get('GPU', 0.0):g} GPUs"
        hint = "; for a cluster that starts machines on demand, set resources.slots" if grows else ""
        raise UserError(f"resources: a trial needs {cpus} CPUs and {gpus:g} GPUs at once, but there are {has}{hint}")
    return min(fitting, resources.slots or fitting)


class Sweep:
    """What a run has done and has to do: the ledger, the study, and the jobs between them."""

    def __init__(self, space: Space, folder: Path, progress: Progress):
        self.space, self.folder, self.progress = space, folder, progress
        self.ledger = Ledger(folder)
        self.searcher = Searcher(space, folder)
        self.searcher.reconcile(self.ledger)
        self.metrics = [metric for metric, _ in space.spec.goals()]
        self.waiting = self.ledger.unfinished()  # of an earlier process: they go on from their checkpoints
        self.exhausted = False
        self.tables_written = 0.0

    def next_trial(self) -> Trial | None:
        """An unfinished trial, else a new one; None when the budget is spent or the grid is done."""
        if self.waiting:
            return self.waiting.pop(0)
        while self.budget_left() > 0:
            try:
                number, point = self.searcher.ask()
            except Exhausted:
                self.exhausted = True
                return None
            try:
                spec = self.space.trial_for(point)
            except ValidationError as error:  # past the checks of a load: the point is a failed trial, not a crash
                self.ledger.add_trial(number, point, self.space.raw_trial(point), "", 0)
                self._end(number, "failed", {}, str(error.errors()[0]["msg"]))
                continue
            workers = self.space.spec.resources.workers
            self.ledger.add_trial(number, point, spec.model_dump(mode="json"), spec.digest(), workers)
            return self.ledger.trials[number]
        return None

    def is_complete(self) -> bool:
        """Whether every trial of the budget or the grid has ended."""
        total = expected_trials(self.space)
        return not self.ledger.unfinished() and (self.exhausted or len(self.ledger.trials) >= (total or math.inf))

    def budget_left(self) -> float:
        """New trials that may still be chosen."""
        return (self.space.spec.budget.trials or math.inf) - len(self.ledger.trials)

    def record(self, number: int, message: dict[str, Any]) -> None:
        """A slot's message about trial ``number``: an epoch, or how it ended."""
        trial = self.ledger.trials[number]
        if trial.status != "running":
            return
        if "status" not in message:
            if self.ledger.add_epoch(number, message):
                self.progress.epoch(trial, message)
        elif message["status"] == "finished" and finite_values(message, self.metrics) is None:
            self._end(number, "failed", message, f"an objective is not a number: {', '.join(self.metrics)}")
        else:
            self._end(number, message["status"], message, message.get("error"))
        self.write_tables()

    def lost(self, number: int, error: str) -> None:
        """Tune lost the slot that held the trial."""
        if self.ledger.trials[number].status == "running":
            self._end(number, "failed", {}, error)

    def _end(self, number: int, status: str, message: dict[str, Any], error: str | None = None) -> None:
        result = {key: value for key, value in message.items() if key not in ("status", "error")}
        self.ledger.add_done(number, status, result, error)
        trial = self.ledger.trials[number]
        self.searcher.tell(number, objective_values(trial, self.metrics), error)
        self.progress.done(trial)

    def write_tables(self, *, now: bool = False) -> None:
        """Write the Parquet files, at most every few seconds: they are rewritten whole."""
        if now or time.monotonic() - self.tables_written >= TABLE_INTERVAL_SECONDS:
            write_tables(self.folder, self.ledger)
            self.tables_written = time.monotonic()


class _TuneSide(TuneSearcher):
    """Hands the sweep's trials to Tune. Tune pickles its searcher: the sweep itself stays out of that."""

    def __init__(self, sweep: Sweep, slot: dict[str, Any]):
        super().__init__()
        self.sweep: Sweep | None = sweep
        self.slot = slot
        self.numbers: dict[str, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "sweep": None}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        assert self.sweep is not None
        trial = self.sweep.next_trial()
        if trial is None:
            return TuneSearcher.FINISHED
        self.numbers[trial_id] = trial.number
        folder = trial_folder(self.sweep.folder, trial.number)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(trial.spec, sort_keys=False))
        self.sweep.progress.started(trial)
        job = {"trial": trial.number, "spec": trial.spec, "folder": str(folder)}
        return {"job": job, "slot": self.slot}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:  # noqa: ARG002
        assert self.sweep is not None
        if error:
            self.sweep.lost(self.numbers[trial_id], "its slot was lost; see the Ray logs")

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""


class _Records(tune.Callback):
    """Brings the slots' records from Tune to the sweep."""

    def __init__(self, sweep: Sweep):
        self.sweep: Sweep | None = sweep

    def __getstate__(self) -> dict[str, Any]:
        return {"sweep": None}

    def on_trial_result(self, *_: Any, trial: Any, result: dict[str, Any], **__: Any) -> None:
        assert self.sweep is not None
        self.sweep.record(trial.config["job"]["trial"], result["record"])


def run_tune(sweep: Sweep, slots: int) -> None:
    """Run every trial that is left. Returns when none is, or on the first SIGINT."""
    resources = sweep.space.spec.resources
    slot = {**resources.model_dump(exclude={"slots"}), "folder": str(sweep.folder / "ray" / "slots")}
    tuner = tune.Tuner(
        tune.with_resources(SlotTrainable, {"CPU": TUNE_ACTOR_CPUS}),
        tune_config=tune.TuneConfig(
            search_alg=_TuneSide(sweep, slot),
            num_samples=-1,
            max_concurrent_trials=slots,
            reuse_actors=True,
            trial_name_creator=lambda trial: f"{trial.config['job']['trial']:04d}",
            trial_dirname_creator=lambda trial: f"{trial.config['job']['trial']:04d}-{trial.trial_id}",
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(sweep.folder / "ray"),
            callbacks=[_Records(sweep)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )
    tuner.fit()
