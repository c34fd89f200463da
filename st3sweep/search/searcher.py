"""Ask Optuna for points to try, and report their results to it.

Not Ray's OptunaSearch: with several objectives that reports stopped trials as complete and leaves NaN ones running.
Here the study is reconciled with the ledger whenever a run starts.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from pydantic import ValidationError

from st3sweep.runs.ledger import Ledger, Trial
from st3sweep.runs.trial_state import objective_values
from st3sweep.search.ahead import ProposalsAhead
from st3sweep.search.gp_process import Request
from st3sweep.search.samplers import Sobol, optuna_sampler, seed_of, startup_trials
from st3sweep.search.study import RunStudy, quiet
from st3sweep.space.distributions import FloatRange
from st3sweep.space.space import Point, Space

_TRIES = 20  # consecutive useless proposals, after which a point is drawn at random
_DRAWS = 10_000


class Exhausted(Exception):
    """The space has no further point."""


class Searcher:
    """The search of a run: ``ask`` proposes a trial and its point, ``tell`` ends it, ``repeat`` adds a replicate."""

    def __init__(
        self,
        space: Space,
        folder: Path,
        first: Sequence[tuple[str, Point]] = (),
        ledger: Ledger | None = None,
        say: Callable[[str], None] = lambda _: None,
    ):
        """Open or create the study in ``folder``; ``first`` are (name, point), proposed before the sampler's.

        They may lack fields. A grid ignores ``first``. The study is updated from the ``ledger``, if given. ``say``
        shows the user a line.
        """
        self.space, self.sampler = space, space.config.searcher.sampler
        self.metrics = space.config.objective_names()
        self._run = RunStudy(space, folder)
        self.study = self._run.study
        self._first_of_all = () if self.sampler == "grid" else first
        self._grid = space.grid() if _is_finite(space) else iter(())
        if self.sampler == "qmc":
            self._sobol = Sobol(len(space.config.search), seed_of(space.config.seed, 0))
        if self.sampler == "gp":
            self.ahead = ProposalsAhead(self._is_new)
        self._say, self._said = say, ""
        self._name = self._sampler = ""  # of the latest proposal
        if ledger is None:
            self._take_stock()
        else:
            self.reconcile(ledger)

    def ask(self) -> tuple[int, Point]:
        """Propose a new point that meets the constraints; return its trial number too. Raises Exhausted."""
        name, fixed = self._next_first()
        for _ in range(_TRIES):
            number, point = self._propose(name, fixed)
            identity = _identity(self.space, point)
            if not self.space.allows(point):
                self._run.end_violation(number)
            elif identity in self._known:
                self._run.end_duplicate(number, self._known[identity])
                name, fixed = self._next_first()
            else:
                break
        else:
            name = ""
            number, point = self._propose(name, self._unknown_point())
            identity = _identity(self.space, point)
        self._name = name
        self._known[identity] = number
        self._look_ahead()
        return number, point

    def tell(self, number: int, values: list[float] | None, error: str | None = None, status: str = "finished") -> None:
        """End trial ``number``: ``finished`` with ``values``, ``stopped`` early, or failed with ``error``."""
        self._run.end(number, values, error, status)
        self._look_ahead()

    def close(self) -> None:
        """End the process that proposes points ahead."""
        if self.sampler == "gp":
            self.ahead.close()

    def repeat(self, number: int, seed: int) -> int:
        """Add a replicate of trial ``number`` with ``seed`` to the study; return its number."""
        return self._run.repeat(number, seed)

    def position(self) -> dict[str, Any]:
        """Return what the ledger records with the latest proposal, so that a resumed run continues from there."""
        facts = {"warm_start": self._name, "sampler": self._sampler}
        return {"asked": self._asked, **{key: value for key, value in facts.items() if value}}

    def reconcile(self, ledger: Ledger) -> None:
        """Update the study from the ledger: a kill may come between their writes, a power cut lose the study's end."""
        for number in range(len(self.study.get_trials(deepcopy=False)), max(ledger.trials, default=-1) + 1):
            trial = ledger.trials.get(number)
            attributes: dict[str, Any] = {}
            if trial is not None and trial.is_replicate:
                attributes = {"replicate_of": trial.replicate_of, "seed": trial.seed}
            self._run.add(trial.params if trial else {}, attributes)
        self._run.take_stock()
        for frozen in self.study.get_trials(deepcopy=False):
            trial = ledger.trials.get(frozen.number)
            if trial is None and not frozen.state.is_finished():
                self._run.end_never_started(frozen.number)
            elif trial is not None and frozen.state in (TrialState.RUNNING, TrialState.PRUNED):
                self._reconcile_trial(frozen, trial)
        self._take_stock(ledger)

    def _reconcile_trial(self, frozen: FrozenTrial, trial: Trial) -> None:
        if frozen.state == TrialState.RUNNING:
            self._run.set_missing_params(trial.number, trial.params)
        if trial.status != "running":
            self._run.end(trial.number, objective_values(trial, self.metrics), trial.error, trial.status)

    def _take_stock(self, ledger: Ledger | None = None) -> None:
        """Index the study's trials once; afterwards each ``ask`` updates the index."""
        trials = ledger.trials if ledger else {}
        started = self._run.take_stock()
        self._known: dict[str, int] = {}  # identity of a point → number of its trial
        for trial in started:
            if not {"status", "duplicate_of"} & set(trial.user_attrs):
                self._known.setdefault(self._identity_of(trial, trials.get(trial.number)), trial.number)
        proposals = [trial for trial in started if "replicate_of" not in trial.user_attrs]
        self._asked = len(proposals)
        if ledger is not None:
            # Useless proposals after the ledger's last trial are of an ask that a kill cut short: it is repeated.
            numbers = [one.number for one in trials.values() if not one.is_replicate]
            last = trials[max(numbers)] if numbers else None
            proposals = [trial for trial in proposals if last is not None and trial.number <= last.number]
            asked = last.asked if last else 0
            if asked is not None:  # it is in ledgers of earlier versions
                self._asked = asked
        names = {trial.user_attrs.get("warm_start") for trial in proposals}
        names |= {trial.warm_start for trial in trials.values()}
        self._first = [(name, point) for name, point in self._first_of_all if name not in names]

    def _identity_of(self, frozen: FrozenTrial, trial: Trial | None) -> str:
        if trial and trial.digest:
            return trial.identity
        seed = {"seed": frozen.user_attrs["seed"]} if "replicate_of" in frozen.user_attrs else {}
        return _identity(self.space, self._run.parameters.to_point(frozen.params) | seed)

    def _next_first(self) -> tuple[str, Point]:
        """Pop the next (name, point) to propose before the sampler's; ("", {}) when none is left."""
        return self._first.pop(0) if self._first else ("", {})

    def _propose(self, name: str, fixed: Mapping[str, Any]) -> tuple[int, Point]:
        """Add a trial with the sampler's next point, its values overridden by ``fixed``; return number and point."""
        asked, self._asked = self._asked, self._asked + 1
        attributes = {"warm_start": name} if name else {}
        if self.sampler in ("grid", "qmc", "random"):  # no model of the trials: one operation of the study
            points = {"grid": self._next_of_grid, "qmc": self._sobol_point, "random": self._random_point}
            point = points[self.sampler](asked, fixed)
            return self._run.add(point, attributes), point
        self._sampler = ""
        if self._fits_gaussian_process() and not fixed:
            if params := self.ahead.take():
                point = self._run.parameters.to_point(params)
                return self._run.add(point, attributes), point
            self._sampler = "tpe"
            attributes["sampler"] = self._sampler
        with quiet():
            spec, seed = self.space.config.searcher, seed_of(self.space.config.seed, asked)
            self._run.proposals.sampler = optuna_sampler(self._sampler or spec.sampler, spec, seed)
            trial = self._run.proposals.new_trial(self._run.parameters.to_study(fixed), attributes)
            return trial.number, self._suggest(trial)

    def _look_ahead(self) -> None:
        """Have the Gaussian process propose as many points as trials run, from all that is known now."""
        if not self._fits_gaussian_process():
            return
        if self.ahead.failure not in ("", self._said):
            self._said = self.ahead.failure
            self._say(f"the Gaussian process could not propose a point, TPE does instead: {self._said}")
        every = {one.name: one.distribution for one in self._run.parameters.all}
        running = [trial.params for trial in self._run.proposals.running() if len(trial.params) == len(every)]
        request = Request(
            seed_of(self.space.config.seed, self._asked),
            tuple(direction.name.lower() for direction in self.study.directions),
            every,
            [(trial.params, trial.values) for trial in self._run.proposals.completed()],
            running,
        )
        self.ahead.want(request, max(len(running), 1))

    def _fits_gaussian_process(self) -> bool:
        return self.sampler == "gp" and self._run.proposals.complete >= startup_trials(self.space.config.searcher)

    def _is_new(self, params: dict[str, Any]) -> bool:
        """Return whether a point meets the constraints and was not run."""
        point = self._run.parameters.to_point(params)
        return self.space.allows(point) and _identity(self.space, point) not in self._known

    def _suggest(self, trial: optuna.Trial) -> Point:
        """Suggest a point define-by-run: conditional fields only where they are active."""
        point: Point = {}
        for one in self._run.parameters.all:
            if self.space.active(one.path, point):
                point[one.path] = one.to_point(trial._suggest(one.name, one.distribution))
        return point

    def _random_point(self, index: int, fixed: Mapping[str, Any]) -> Point:
        """Return random point ``index``, as Optuna's sampler draws it: conditional fields only where active."""
        sampler, point = optuna.samplers.RandomSampler(seed_of(self.space.config.seed, index)), dict[str, Any]()
        for one in self._run.parameters.all:
            if self.space.active(one.path, point):
                if one.path in fixed:
                    value = one.to_study(fixed[one.path])
                elif one.distribution.single():
                    value = optuna.distributions._get_single_value(one.distribution)
                else:
                    value = sampler.sample_independent(self.study, None, one.name, one.distribution)
                point[one.path] = one.to_point(value)
        return point

    def _sobol_point(self, index: int, fixed: Mapping[str, Any]) -> Point:
        """Return Sobol' point ``index``: a coordinate for each searched field, unused where a field is inactive."""
        point: Point = {}
        for one, coordinate in zip(self._run.parameters.all, self._sobol.at(index), strict=True):
            if self.space.active(one.path, point):
                point[one.path] = fixed.get(one.path, one.searched.at(coordinate))
        return point

    def _next_of_grid(self, *_: Any) -> Point:
        for point in self._grid:
            if _identity(self.space, point) not in self._known:
                return point
        raise Exhausted("every point of the space has been run")

    def _unknown_point(self) -> Point:
        """Draw a new random point that meets the constraints; if none is found, the next one of a finite space."""
        rng, drawn = random.Random(seed_of(self.space.config.seed, self._asked)), set[str]()
        for _ in range(_DRAWS):
            point = self.space.draw(rng)
            if (key := str(point)) in drawn:  # a small space has the same few points again and again
                continue
            drawn.add(key)
            if self.space.allows(point) and _identity(self.space, point) not in self._known:
                return point
        if _is_finite(self.space):
            return self._next_of_grid()
        raise Exhausted(f"{_DRAWS:,} random points violate the constraints or were run before")


def _is_finite(space: Space) -> bool:
    return not any(isinstance(distribution, FloatRange) for distribution in space.config.search.values())


def _identity(space: Space, point: Mapping[str, Any]) -> str:
    """Return a key equal for points of the same trial: its digest and seed, or the point if it is not a valid trial."""
    try:
        trial = space.trial_for(point)
    except ValidationError:
        return str(sorted(point.items()))
    return trial.identity()
