"""The Optuna study of a run: its trials, how they end, and which of them the samplers see.

A stopped trial is PRUNED and a failed one FAIL. A trial's user attributes say more:

- ``status``: "violates a constraint", for a proposal that was not run;
- ``duplicate_of``: the earlier trial of the same point; this proposal gets its values;
- ``replicate_of`` and ``seed``: the trial that this one repeats. Samplers do not see replicates;
- ``continues``: the trial, stopped early and then promoted, whose end this one records. Samplers see only this one;
- ``warm_start``: the name of the point among those to try first;
- ``sampler``: the sampler that proposed the point in place of the space's, which had none ready;
- ``error``: why the trial failed.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from st3sweep.search.fitted_trials import FittedTrials
from st3sweep.search.journal import Journal
from st3sweep.search.parameters import Parameters
from st3sweep.space.space import Point, Space

JOURNAL = "study.journal"
VIOLATES = "violates a constraint"
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
        bounded = space.config.searcher.sampler in ("tpe", "gp")
        self.proposals = Proposals(space.config.name, storage, bounded=bounded)
        self.continued: dict[int, int] = {}  # promoted trial → the trial that records its end

    def take_stock(self) -> list[FrozenTrial]:
        """Index the study's trials; return those that were started, without those that continue others."""
        started = []
        trials = self.study.get_trials(deepcopy=False)
        self.proposals.hidden.clear()
        for trial in trials:
            if "continues" in trial.user_attrs:
                self.continued[trial.user_attrs["continues"]] = trial.number
            elif trial.user_attrs.get("error") != NEVER_STARTED:
                started.append(trial)
                if "replicate_of" in trial.user_attrs:
                    self.proposals.hidden.add(trial.number)
        self.proposals.hidden |= set(self.continued)
        self.proposals.take_stock(trials)
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
        number = storage.get_trial_number_from_id(storage.create_new_trial(self.study._study_id, template))
        self.proposals.saw(self.trial(number))
        return number

    def end(self, number: int, values: list[float] | None, error: str | None, status: str) -> None:
        """End a trial: COMPLETE with ``values``, PRUNED if its status is ``stopped``, else FAIL with ``error``.

        A trial that is already PRUNED was promoted: its new end is recorded, once, as a trial that continues it.
        """
        state = TrialState.PRUNED if status == "stopped" else TrialState.FAIL if values is None else TrialState.COMPLETE
        values = values if state == TrialState.COMPLETE else None
        if self.trial(number).state != TrialState.PRUNED:
            if error:
                self.set_attribute(number, "error", error)
            self._tell(number, values, state)
        elif state != TrialState.PRUNED and number not in self.continued:
            attributes: dict[str, Any] = {"continues": number, **({"error": error} if error else {})}
            self.continued[number] = self._add_like(number, state, attributes, values)
            self.proposals.hide(number)

    def end_never_started(self, number: int) -> None:
        """Fail a trial that was proposed or enqueued, but not in the ledger when the program was killed."""
        self.set_attribute(number, "error", NEVER_STARTED)
        trial_id = self.trial(number)._trial_id
        self.study._storage.set_trial_state_values(trial_id, TrialState.FAIL)  # tell refuses a WAITING trial
        self.proposals.saw(self.trial(number))

    def end_violation(self, number: int) -> None:
        """Fail a proposal that violates a constraint."""
        self.set_attribute(number, "status", VIOLATES)
        self._tell(number, None, TrialState.FAIL)

    def end_duplicate(self, number: int, earlier: int) -> None:
        """End a proposal whose point trial ``earlier`` has run, with the state and values of that trial."""
        self.set_attribute(number, "duplicate_of", earlier)
        frozen = self.trial(self.continued.get(earlier, earlier))
        state = frozen.state if frozen.state in (TrialState.COMPLETE, TrialState.PRUNED) else TrialState.FAIL
        self._tell(number, frozen.values if state == TrialState.COMPLETE else None, state)

    def _tell(self, number: int, values: list[float] | None, state: TrialState) -> None:
        self.study.tell(number, values, state=state)
        self.proposals.saw(self.trial(number))

    def repeat(self, number: int, seed: int) -> int:
        """Add a replicate of trial ``number``; return its number."""
        repeated = self._add_like(number, TrialState.RUNNING, {"replicate_of": number, "seed": seed})
        self.proposals.hide(repeated)
        return repeated

    def set_missing_params(self, number: int, point: Point) -> None:
        """Restore the parameters of a running trial that a power cut lost."""
        frozen = self.trial(number)
        for one in self.parameters.all:
            if one.path in point and one.name not in frozen.params:
                value = one.distribution.to_internal_repr(one.to_study(point[one.path]))
                self.study._storage.set_trial_param(frozen._trial_id, one.name, value, one.distribution)


class Proposals(optuna.Study):
    """The study as samplers see it: without the ``hidden`` trials, and if ``bounded`` with as many as TPE fits.

    Hidden are replicates, and trials that others continue.
    """

    def __init__(self, name: str, storage: BaseStorage, *, bounded: bool):
        super().__init__(name, storage)
        self.hidden: set[int] = set()
        self._signs = [-1.0 if direction == StudyDirection.MAXIMIZE else 1.0 for direction in self.directions]
        self._bounded = bounded
        self.take_stock([])

    def take_stock(self, trials: Sequence[FrozenTrial]) -> None:
        """Index ``trials``, all of the study."""
        self._fitted, self._running = FittedTrials(len(self._signs)), set[int]()
        self._ended: dict[int, FrozenTrial] = {}  # those fitted last
        self._changed = True  # since then
        self.complete = 0  # number of complete trials
        for trial in trials:
            self.saw(trial)

    def saw(self, trial: FrozenTrial) -> None:
        """Update the index by a trial that began or ended."""
        if not self._bounded or trial.number in self.hidden:
            return
        if trial.state == TrialState.RUNNING:
            self._running.add(trial.number)
            return
        self._changed = True
        self._running.discard(trial.number)
        if trial.state == TrialState.COMPLETE:
            self.complete += 1
            costs = [sign * value for sign, value in zip(self._signs, trial.values, strict=True)]
            self._fitted.add(trial.number, costs)
        elif trial.state == TrialState.PRUNED:
            self._fitted.add(trial.number, None)

    def hide(self, number: int) -> None:
        """Hide a replicate, or a trial that another one continues."""
        self.hidden.add(number)
        self._running.discard(number)
        self._fitted.discard(number)
        self._changed = True

    def new_trial(self, fixed: dict[str, Any], attributes: dict[str, Any]) -> optuna.Trial:
        """Do ``enqueue_trial`` and ``ask`` in one operation, without scanning all trials for a waiting one."""
        self._thread_local.cached_all_trials = None
        system_attrs = {"fixed_params": fixed} if fixed else {}
        template = create_trial(state=TrialState.RUNNING, system_attrs=system_attrs, user_attrs=attributes)
        trial = optuna.Trial(self, self._storage.create_new_trial(self._study_id, template))
        if self._bounded:
            self._running.add(trial.number)
        return trial

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        if not self._bounded:
            trials = super()._get_trials(deepcopy, states, use_cache)
            return [trial for trial in trials if trial.number not in self.hidden] if self.hidden else trials
        if self._changed:
            chosen = self._fitted.chosen()
            self._ended = {number: self._ended.get(number) or self._trial(number) for number in chosen}
            self._changed = False
        trials = [*self._ended.values(), *self.running()]
        return [trial for trial in trials if states is None or trial.state in states]

    def completed(self) -> list[FrozenTrial]:
        """Return all complete trials that are not hidden."""
        trials = super()._get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return [trial for trial in trials if trial.number not in self.hidden]

    def running(self) -> list[FrozenTrial]:
        """Return the running trials."""
        return [self._trial(number) for number in sorted(self._running)]

    def _trial(self, number: int) -> FrozenTrial:
        return self._storage.get_trial(self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress Optuna's warnings of experimental functions; the constraints file pins the tested version."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
