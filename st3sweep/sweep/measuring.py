"""Add to finished trials what the space asks to measure (``measure``): latency and the size of the file.

When a trial ends its latency is predicted, and its file's size measured: that is what Optuna is told. When all have
ended, ``measure_all`` times one trial after another, with nothing else of the sweep running.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from st3sweep.runs.ledger import Ledger, Trial
from st3sweep.space.measuring import LATENCY, SIZE

if TYPE_CHECKING:
    from st3sweep.networks.latency import Predictor

DISTURBED, PREDICTED = "latency_disturbed", "latency_predicted_ms"
Result = Mapping[str, Any]


class Measuring:
    """Measures the trials of the run in ``folder``; ``say`` shows the user a line."""

    def __init__(self, folder: Path, say: Callable[[str], None], *, latency: bool, size: bool):
        self.folder, self.say, self.latency, self.size = folder, say, latency, size
        self._said: set[str] = set()
        self._predictor: Predictor | None = None
        if latency:
            from st3sweep.export.calibration import predictor  # torch

            self._predictor = predictor()

    def at_end(self, trial: Trial, result: Result) -> dict[str, Any]:
        """Return the columns to add to the ``result`` with which ``trial`` finishes."""
        more: dict[str, Any] = {}
        if self._predictor is not None and (layers := result.get("layers")):
            predicted = self._predictor(layers)
            more |= {LATENCY: predicted, PREDICTED: predicted}
        if self.size and "reused_from" not in result:
            from st3sweep.export.measuring import measured

            found, error = measured(self.folder, replace(trial, status="finished", result=dict(result)), latency=False)
            more |= {SIZE: found.get(SIZE)}
            self._say_once(trial, "size", error)
        return more

    def measure_all(self, ledger: Ledger, numbers: Iterable[int] | None = None) -> Iterator[Trial]:
        """Time the trials that ``unmeasured`` returns, or those of ``numbers``, and yield each once it is recorded."""
        from st3sweep.export.measuring import measured

        trials = unmeasured(ledger) if numbers is None else [ledger.trials[number] for number in numbers]
        for trial in trials:
            values, error = measured(self.folder, trial)
            if self._predictor is not None and PREDICTED not in trial.result and trial.layers:
                values |= {PREDICTED: self._predictor(trial.layers)}
            ledger.add_measured(trial.number, values, error)
            self._say_once(trial, "latency", error)
            yield trial

    def _say_once(self, trial: Trial, what: str, error: str) -> None:
        reason = re.sub(r"\d+", "", error)  # the same for other trials
        if error and reason not in self._said:
            self._said.add(reason)
            self.say(f"trial {trial.number}: {what} not measured: {error}")


def unmeasured(ledger: Ledger) -> list[Trial]:
    """Return finished trials whose latency was never measured or tried; reused results have no weights to measure."""
    return [
        trial
        for trial in ledger.trials.values()
        if trial.status == "finished" and DISTURBED not in trial.result and "reused_from" not in trial.result
    ]


def left_in_words(count: int) -> str:
    """Say how many trials wait to be measured; "" for none."""
    return f"{count} trial{'s are' if count > 1 else ' is'} not measured yet" if count else ""
