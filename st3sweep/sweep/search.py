"""Optuna's side of a run: a persistent study that is asked for points and told how they ended.

Not Ray's OptunaSearch: with several objectives that one tells stopped trials as complete and leaves NaN ones running
for ever. Here a failed trial is FAIL, and the study is brought in line with the ledger whenever a run starts.
"""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from st3sweep.distributions import FloatRange, IntRange, scaled, unscaled
from st3sweep.space import Point, Space
from st3sweep.sweep.ledger import Ledger, drop_torn_line, objective_values

JOURNAL = "study.journal"
NEVER_STARTED = "asked for, but never started"
_MAX_REJECTED = 10_000


class Exhausted(Exception):
    """The space has no further point."""


class Searcher:
    """The study of one run. ``ask`` gives a trial number and a point, ``tell`` ends one."""

    def __init__(self, space: Space, folder: Path):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space = space
        path = folder / JOURNAL
        with contextlib.suppress(FileNotFoundError):
            # The run's folder is locked, so a lock of the journal is one that a killed process left behind.
            path.with_name(f"{path.name}.lock").unlink()
        with contextlib.suppress(FileNotFoundError):
            drop_torn_line(path)  # Optuna appends to it, and can then read neither
        self.study = optuna.create_study(
            study_name=space.spec.name,
            storage=JournalStorage(JournalFileBackend(str(path))),
            directions=["maximize" if goal == "max" else "minimize" for _, goal in space.spec.goals()],
            load_if_exists=True,
        )
        with _quiet():
            self.study.set_metric_names([metric for metric, _ in space.spec.goals()])

    def ask(self) -> tuple[int, Point]:
        """The next point that meets the constraints. Raises Exhausted at the end of a grid."""
        if self.space.spec.searcher.sampler == "grid":
            return self._ask_grid()
        for _ in range(_MAX_REJECTED):
            self.study.sampler = self._sampler(len(self._asked()))
            trial = self.study.ask()
            point = self._suggest(trial)
            if self.space.allows(point):
                return trial.number, point
            trial.set_user_attr("status", "violates a constraint")
            self.study.tell(trial, state=TrialState.FAIL)
        raise Exhausted(f"{_MAX_REJECTED} points in a row violate the constraints")

    def tell(self, number: int, values: list[float] | None, error: str | None = None) -> None:
        """End trial ``number``: COMPLETE with ``values``, or FAIL where there are none."""
        trial_id = self.study.get_trials(deepcopy=False)[number]._trial_id
        if error:
            self.study._storage.set_trial_user_attr(trial_id, "error", error)
        if values is None:
            self.study.tell(number, state=TrialState.FAIL)
        else:
            self.study.tell(number, values)

    def reconcile(self, ledger: Ledger) -> None:
        """Bring the study in line with the ledger: a kill can fall between the two."""
        metrics = [metric for metric, _ in self.space.spec.goals()]
        for frozen in self.study.get_trials(deepcopy=True, states=(TrialState.RUNNING, TrialState.WAITING)):
            trial = ledger.trials.get(frozen.number)
            if trial is None:  # asked for, and killed before it was written down
                self.study._storage.set_trial_user_attr(frozen._trial_id, "error", NEVER_STARTED)
                self.study._storage.set_trial_state_values(frozen._trial_id, TrialState.FAIL)  # tell wants it running
            elif trial.status != "running":
                self.tell(frozen.number, objective_values(trial, metrics), trial.error)

    def _asked(self) -> list[FrozenTrial]:
        """The trials so far, less those that were never started: their points are asked for again."""
        trials = self.study.get_trials(deepcopy=False)
        return [trial for trial in trials if trial.user_attrs.get("error") != NEVER_STARTED]

    def _ask_grid(self) -> tuple[int, Point]:
        started = [trial.user_attrs.get("point") for trial in self._asked()]
        point = next((point for point in self.space.grid() if point not in started), None)
        if point is None:
            raise Exhausted("every point of the grid has been run")
        self.study.enqueue_trial({self._name(path): value for path, value in point.items()})
        trial = self.study.ask()
        trial.set_user_attr("point", point)
        return trial.number, self._suggest(trial)

    def _suggest(self, trial: optuna.Trial) -> Point:
        """Define-by-run: conditional fields are suggested only where they are active."""
        point: Point = {}
        for path in self.space.order():
            if self.space.active(path, point):
                value = trial._suggest(self._name(path), self._distribution(path))
                point[path] = self._unscale(path, value)
        return point

    def _name(self, path: str) -> str:
        """Parameter name in the study. A log1m range is searched, and shown there, as -log(1 - x)."""
        distribution = self.space.spec.search[path]
        is_log1m = isinstance(distribution, FloatRange) and distribution.scale == "log1m"
        return f"-log(1-{path})" if is_log1m else path

    def _distribution(self, path: str) -> BaseDistribution:
        distribution = self.space.spec.search[path]
        if isinstance(distribution, FloatRange):
            low, high = distribution.float_
            if distribution.scale == "log1m":
                return FloatDistribution(scaled(low, "log1m"), scaled(high, "log1m"))
            return FloatDistribution(low, high, log=distribution.scale == "log")
        if isinstance(distribution, IntRange):
            values = distribution.values()
            return IntDistribution(values[0], values[-1], step=distribution.step)
        return CategoricalDistribution(distribution.choice)

    def _unscale(self, path: str, value: Any) -> Any:
        distribution = self.space.spec.search[path]
        if isinstance(distribution, FloatRange) and distribution.scale == "log1m":
            return distribution.clamp(unscaled(value, "log1m"))
        return value

    def _sampler(self, asked: int) -> optuna.samplers.BaseSampler:
        """A sampler whose randomness is a function of (seed, trials asked so far): it needs no state to resume."""
        spec, digest = self.space.spec.searcher, hashlib.sha256(f"{self.space.spec.seed}:{asked}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        with _quiet():
            if spec.sampler == "tpe":
                return optuna.samplers.TPESampler(
                    seed=seed,
                    n_startup_trials=spec.startup_trials or 10,
                    multivariate=True,
                    group=True,
                    constant_liar=True,
                )
            if spec.sampler == "nsga2":
                return optuna.samplers.NSGAIISampler(seed=seed, population_size=spec.population or 50)
            return optuna.samplers.RandomSampler(seed=seed)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's notes that a function is experimental; the constraints file pins what was tested."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
