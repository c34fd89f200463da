"""The Optuna study of a run: its trials, how they end, and which of them the samplers see.

A stopped trial is PRUNED and a failed one FAIL. A trial's user attributes say more:

- ``status``: "violates a constraint", for a proposal that was not run;
- ``duplicate_of``: the earlier trial of the same point; this proposal gets its values;
- ``replicate_of`` and ``seed``: the trial that this one repeats. Samplers do not see replicates;
- ``continues``: the trial, stopped early and then promoted, whose end this one records. Samplers see only this one;
- ``warm_start``: the name of the point among those to try first;
- ``error``: why the trial failed.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from st3sweep.search.journal import Journal
from st3sweep.search.parameters import Parameters
from st3sweep.space.space import Point, Space

JOURNAL = "study.journal"
NEVER_STARTED = "asked for, but never started"


class RunStudy:
    """A run's operations on Optuna's ``study``, each at a cost that does not grow with the number of trials."""

    def __init__(self, space: Space, folder: Path):
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.parameters = Parameters(space)
        storage = JournalStorage(Journal(folder / JOURNAL))
        self.study = optuna.create_study(
            study_name=space.config.name,
            storage=storage,
            directions=["maximize" if goal == "max" else "minimize" for _, goal in space.config.goals()],
            load_if_exists=True,
        )
        with quiet():
            self.study.set_metric_names(space.config.objective_names())
        self.proposals = Proposals(space.config.name, storage)
        self.continued: dict[int, int] = {}  # promoted trial → the trial that records its end

    def take_stock(self) -> list[FrozenTrial]:
        """Index the study's trials; return those that were started, without those that continue others."""
        started = []
        self.proposals.hidden.clear()
        for trial in self.study.get_trials(deepcopy=False):
            if "continues" in trial.user_attrs:
                self.continued[trial.user_attrs["continues"]] = trial.number
            elif trial.user_attrs.get("error") != NEVER_STARTED:
                started.append(trial)
                if "replicate_of" in trial.user_attrs:
                    self.proposals.hidden.add(trial.number)
        self.proposals.hidden |= set(self.continued)
        return started

    def trial(self, number: int) -> FrozenTrial:
        storage = self.study._storage
        return storage.get_trial(storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number))

    def set_attribute(self, number: int, name: str, value: Any) -> None:
        self.study._storage.set_trial_user_attr(self.trial(number)._trial_id, name, value)

    def add(self, point: Point, attributes: dict[str, Any]) -> int:
        """Add a running trial with all its parameters in one operation; return its number."""
        params, distributions = self.parameters.to_study(point), self.parameters.distributions(point)
        running = TrialState.RUNNING
        return self._add(create_trial(state=running, params=params, distributions=distributions, user_attrs=attributes))

    def _add_like(self, number: int, state: TrialState, attributes: dict[str, Any], values: Any = None) -> int:
        """Add a trial with the parameters of trial ``number``; return its number."""
        like = self.trial(number)
        facts: dict[str, Any] = {"params": like.params, "distributions": like.distributions, "user_attrs": attributes}
        return self._add(create_trial(state=state, values=values, **facts))

    def _add(self, template: FrozenTrial) -> int:
        storage = self.study._storage
        return storage.get_trial_number_from_id(storage.create_new_trial(self.study._study_id, template))

    def end(self, number: int, values: list[float] | None, error: str | None, status: str) -> None:
        """End a trial: COMPLETE with ``values``, PRUNED if its status is ``stopped``, else FAIL with ``error``.

        A trial that is already PRUNED was promoted: its new end is recorded, once, as a trial that continues it.
        """
        state = TrialState.PRUNED if status == "stopped" else TrialState.FAIL if values is None else TrialState.COMPLETE
        values = values if state == TrialState.COMPLETE else None
        if self.trial(number).state != TrialState.PRUNED:
            if error:
                self.set_attribute(number, "error", error)
            self.study.tell(number, values, state=state)
        elif state != TrialState.PRUNED and number not in self.continued:
            attributes: dict[str, Any] = {"continues": number, **({"error": error} if error else {})}
            self.continued[number] = self._add_like(number, state, attributes, values)
            self.proposals.hidden.add(number)

    def end_never_started(self, number: int) -> None:
        """Fail a trial that was proposed or enqueued, but not in the ledger when the program was killed."""
        self.set_attribute(number, "error", NEVER_STARTED)
        trial_id = self.trial(number)._trial_id
        self.study._storage.set_trial_state_values(trial_id, TrialState.FAIL)  # tell refuses a WAITING trial

    def end_duplicate(self, number: int, earlier: int) -> None:
        """End a proposal whose point trial ``earlier`` has run, with the state and values of that trial."""
        self.set_attribute(number, "duplicate_of", earlier)
        frozen = self.trial(self.continued.get(earlier, earlier))
        state = frozen.state if frozen.state in (TrialState.COMPLETE, TrialState.PRUNED) else TrialState.FAIL
        self.study.tell(number, frozen.values if state == TrialState.COMPLETE else None, state=state)

    def repeat(self, number: int, seed: int) -> int:
        """Add a replicate of trial ``number``; return its number."""
        repeated = self._add_like(number, TrialState.RUNNING, {"replicate_of": number, "seed": seed})
        self.proposals.hidden.add(repeated)
        return repeated

    def set_missing_params(self, number: int, point: Point) -> None:
        """Restore the parameters of a running trial that a power cut lost."""
        frozen = self.trial(number)
        for one in self.parameters.all:
            if one.path in point and one.name not in frozen.params:
                value = one.distribution.to_internal_repr(one.to_study(point[one.path]))
                self.study._storage.set_trial_param(frozen._trial_id, one.name, value, one.distribution)


class Proposals(optuna.Study):
    """The study as samplers see it, without the ``hidden`` trials: replicates and continued ones."""

    def __init__(self, name: str, storage: BaseStorage):
        super().__init__(name, storage)
        self.hidden: set[int] = set()

    def new_trial(self, fixed: dict[str, Any], attributes: dict[str, Any]) -> optuna.Trial:
        """Do ``enqueue_trial`` and ``ask`` in one operation, without scanning all trials for a waiting one."""
        self._thread_local.cached_all_trials = None
        system_attrs = {"fixed_params": fixed} if fixed else {}
        template = create_trial(state=TrialState.RUNNING, system_attrs=system_attrs, user_attrs=attributes)
        return optuna.Trial(self, self._storage.create_new_trial(self._study_id, template))

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        trials = super()._get_trials(deepcopy, states, use_cache)
        return [trial for trial in trials if trial.number not in self.hidden] if self.hidden else trials


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress Optuna's warnings of experimental functions; the constraints file pins the tested version."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
