"""Decide which checkpoints of ended trials stay (``resources.checkpoints``), and remove the others as a sweep goes.

| trial | ``finished`` keeps | ``front`` keeps |
|---|---|---|
| finished | the best epoch's weights | the same, if it is on a front or repeats a trial that is; else nothing |
| stopped early | the last and the best, for ``--promote`` | nothing |
| failed | the last, to look at: no command reads it | nothing |

``all`` keeps everything. A trial that has not ended keeps all of its checkpoints, whatever the setting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from st3sweep.pareto import Goal, pareto_mask
from st3sweep.runs.folder import trial_folder
from st3sweep.runs.ledger import Ledger, Trial
from st3sweep.space.resources import Checkpoints
from st3sweep.training.checkpoint_files import BEST, LAST, PREVIOUS, find_checkpoints
from st3sweep.util.errors import UserError

Goals = Sequence[tuple[str, Goal]]
SHOWN: Goals = (("val_top1", "max"), ("gflops", "min"))  # whatever the objectives: what ``pick`` and ``pareto`` show


class Fronts:
    """The fronts of a run: of its objectives, and of accuracy over cost. ``trial in fronts`` if it is on one of them.

    A replicate is where the trial that it repeats is. A trial that has left all fronts never comes back: what dominates
    it stays, or is dominated itself.
    """

    def __init__(self, objectives: Goals, trials: Iterable[Trial] = ()):
        self._fronts: dict[tuple[tuple[str, Goal], ...], list[Trial]] = {tuple(g): [] for g in (objectives, SHOWN)}
        self._numbers: set[int] = set()
        self.add(trials)

    def __contains__(self, trial: Trial) -> bool:
        return (trial.number if trial.replicate_of is None else trial.replicate_of) in self._numbers

    def add(self, trials: Iterable[Trial]) -> set[int]:
        """Add those of ``trials`` that may be on a front; return the numbers of trials that are on none any more."""
        new, before = [trial for trial in trials if trial.may_be_on_front], self._numbers
        for goals, front in self._fronts.items():
            candidates = [*front, *new]
            mask = pareto_mask([_values(trial, goals) for trial in candidates], [goal for _, goal in goals])
            self._fronts[goals] = [trial for trial, on_front in zip(candidates, mask, strict=True) if on_front]
        self._numbers = {trial.number for front in self._fronts.values() for trial in front}
        return before - self._numbers


def _values(trial: Trial, goals: Goals) -> list[float]:
    found = [trial.result.get(metric) for metric, _ in goals]
    return [np.nan if value is None else float(value) for value in found]


class Removable(NamedTuple):
    """A checkpoint that need not stay, and why."""

    trial: int
    name: str
    path: Path
    why: str

    def remove(self) -> OSError | None:
        """Remove the file if it is still there; return why it cannot be removed."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            return error
        return None


def removable(run: Path, trial: Trial, keep: Checkpoints, fronts: Fronts) -> Iterator[Removable]:
    """Yield the checkpoints of ``trial`` of the run in folder ``run`` that ``keep`` removes. May raise OSError."""
    if kept := kept_of(trial, keep, fronts):
        for name, path in find_checkpoints(trial_folder(run, trial.number)).items():
            if name not in kept[0]:
                yield Removable(trial.number, name, path, kept[1])


def kept_of(trial: Trial, keep: Checkpoints, fronts: Fronts) -> tuple[tuple[str, ...], str] | None:
    """Return the names of the checkpoints of ``trial`` that stay, and why the others do not; None if all stay."""
    if keep == "all" or trial.status == "running" or "reused_from" in trial.result:
        return None
    return _kept(trial, keep, on_front=trial in fronts)


def _kept(trial: Trial, keep: Checkpoints, *, on_front: bool) -> tuple[tuple[str, ...], str]:
    """Return the names of the checkpoints of an ended trial that stay, and why the others do not."""
    if trial.status == "finished":
        if on_front or keep == "finished":
            return (BEST,), "finished: only the best epoch is read again"
        return (), "dominated" if trial.replicate_of is None else "repeats a dominated trial"
    if keep == "front":
        return (), "stopped early" if trial.status == "stopped" else "failed"
    if trial.status == "stopped":
        return (LAST, BEST), "stopped early: continues from the last"
    return (LAST,), "failed: none is read again"


class CheckpointRemover:
    """Removes the checkpoints that the setting ``keep`` does not, in the driver's process: storage is shared.

    Call it only for trials whose end the ledger has recorded. Never raises for a file: reports the first that cannot be
    removed to ``say``; the next program on the run, or ``st3sweep clean``, tries again.
    """

    def __init__(
        self,
        run: Path,
        ledger: Ledger,
        keep: Checkpoints,
        objectives: Goals,
        say: Callable[[str], None],
        keep_only: Callable[[int, Iterable[str]], None] | None = None,
    ):
        """``keep_only`` is told the checkpoints of an ended trial that stay, where they are kept elsewhere too."""
        self.run, self.ledger, self.keep, self._keep_only = run, ledger, keep, keep_only
        self._say, self._warned = say, False
        self.fronts = Fronts(objectives, ledger.trials.values() if keep == "front" else ())

    def ended(self, trial: Trial) -> None:
        """Remove what ``trial``, which has just ended, leaves, and the checkpoints of those that it dominates."""
        gone = self.fronts.add([trial]) if self.keep == "front" else set()
        if gone:
            for other in self.ledger.trials.values():
                if other.number in gone or other.replicate_of in gone:
                    self._remove(other)
        self._remove(trial)

    def all_ended(self) -> None:
        """Remove what an earlier program left: killed before the removal, or run with another setting."""
        if self.keep != "all":
            for trial in self.ledger.trials.values():
                self._remove(trial)

    def _remove(self, trial: Trial) -> None:
        try:
            found = list(removable(self.run, trial, self.keep, self.fronts))
        except OSError as error:
            self._warn(trial_folder(self.run, trial.number), error)
            return
        for one in found:
            if failure := one.remove():
                self._warn(one.path, failure)
        if self._keep_only and (kept := kept_of(trial, self.keep, self.fronts)):
            self._keep_only(trial.number, kept[0])

    def _warn(self, path: Path, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            self._say(f"{path}: cannot be removed ({error.strerror}); other checkpoints may stay too")


def check_promotable(run: Path, trial: Trial) -> None:
    """Raise UserError where an early-stopped ``trial`` has no checkpoint left from which to continue."""
    folder = trial_folder(run, trial.number)
    if not {LAST, PREVIOUS} & set(find_checkpoints(folder)):
        again = f"train it anew with: st3sweep train {folder / 'config.yaml'}"
        raise UserError(
            f"--promote {trial.number}: its checkpoint was removed (resources.checkpoints: front, or clean); {again}"
        )
