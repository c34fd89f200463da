"""Read a run's state from its ledger, without disturbing the program that writes it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Group

from st3sweep.reporting.live_table import LiveTable
from st3sweep.runs.bring import local_run
from st3sweep.runs.folder import RESOLVED, existing_run, holder
from st3sweep.runs.ledger import Ledger
from st3sweep.space.loading import load_stored_space
from st3sweep.space.space import Space
from st3sweep.sweep.budget import blocking_limit, is_complete
from st3sweep.sweep.measuring import left_in_words, unmeasured
from st3sweep.training.components import register_components


@dataclass(frozen=True)
class Status:
    """Snapshot of a run; ``held_by`` is the pid and host of the program that runs it, or None."""

    folder: Path
    held_by: dict[str, Any] | None
    space: Space
    ledger: Ledger

    @property
    def spent(self) -> dict[str, float]:
        """Return wall seconds, GPU-hours and money spent, up to the last event."""
        return {"wall": self.ledger.wall_seconds, "gpu_hours": self.ledger.gpu_hours, "money": self.ledger.money}

    @cached_property
    def total(self) -> int | None:
        """Return how many trials the search will have; None if only its budget ends it."""
        if self.space.config.searcher.sampler != "grid":
            return self.space.expected_trials()
        if self.ledger.expected_trials is not None:
            return self.ledger.expected_trials
        register_components()  # a run from before 0.2, whose grid may need the default of any field
        return self.space.expected_trials()

    @cached_property
    def state(self) -> str:
        """Return ``running``, or how the last program ended, as ``Outcome`` has it: complete, budget, interrupted."""
        if self.held_by:
            return "running"
        if is_complete(self.space, self.ledger, self.total or math.inf, self.spent):
            return "interrupted" if self._unmeasured else "complete"
        return "budget" if self._limit else "interrupted"

    @property
    def _unmeasured(self) -> int:
        return len(unmeasured(self.ledger)) if self.space.config.measures_latency else 0

    @cached_property
    def _limit(self) -> str | None:
        return blocking_limit(self.space, self.ledger, self.spent)

    def lines(self, name: str) -> list[str]:
        """Return the lines above the table; ``name`` is the folder as shown to the user."""
        if self.held_by:
            return [f"{name}: run by process {self.held_by['pid']} on {self.held_by['host']}"]
        if self.state == "complete":
            return [f"{name}: complete"]
        limit = self._limit
        why, more = (f"the budget's {limit} is spent", f" --set budget.{limit}=... --extend") if limit else ("", "")
        ended = f" ({self.ledger.why})" if self.ledger.why else ""
        ended = ended or (f" ({left_in_words(self._unmeasured)})" if self._unmeasured else "")
        return [f"{name}: {why or f'not running{ended}'}", f"continue with: st3sweep resume {name}{more}"]

    def table(self) -> Group:
        """Return the table of the command ``run``, without its clock."""
        return self._progress().table(clock=False)

    def _progress(self) -> LiveTable:
        progress = LiveTable(self.total, objectives=self.space.config.goals())
        progress.resumed([trial for trial in self.ledger.trials.values() if trial.status != "running"])
        for trial in self.ledger.unfinished():
            progress.started(trial)
        limits = self.space.config.budget.limits()
        progress.budget({name: (used, limits.get(name)) for name, used in self.spent.items()})
        return progress

    def as_dict(self) -> dict[str, Any]:
        """Return the status as plain data: ``trials`` that the search will have, ``counts`` without replicates."""
        limits = self.space.config.budget.limits()
        ended = self._progress()
        return {
            "folder": str(self.folder),
            "state": self.state,
            "why": self.ledger.why,
            "held_by": self.held_by,
            "trials": self.total,
            "counts": ended.counts,
            "replicates": ended.replicates,
            "spent": {name: {"spent": used, "limit": limits.get(name)} for name, used in self.spent.items()},
            "open": [
                {
                    "trial": trial.number,
                    "digest": trial.digest,
                    "replicate_of": trial.replicate_of,
                    "epochs": len(trial.epochs),
                    "last": trial.last_epoch or None,
                }
                for trial in self.ledger.unfinished()
            ],
            "front": [
                {"trial": trial.number, **{name: trial.result[name] for name in ("val_top1", "gflops", "sparsity")}}
                for trial in ended.front
            ],
        }


def read_status(folder: Path) -> Status:
    """Read the current state of the run in ``folder``. Raises UserError if it is not a run."""
    folder = existing_run(local_run(folder))
    return Status(folder, holder(folder), load_stored_space(folder / RESOLVED), Ledger(folder, read_only=True))
