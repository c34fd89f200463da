"""Define how a sweep reports trials to loggers such as TensorBoard, MLflow or W&B (``execution/loggers.py``)."""

from __future__ import annotations

from typing import Any, Protocol

from st3sweep.runs.ledger import Trial


class TrialLogger(Protocol):
    """Interface of a logger: receives the start, epochs and end of every trial."""

    def started(self, trial: Trial) -> None: ...

    def epoch(self, trial: Trial, record: dict[str, Any]) -> None: ...

    def done(self, trial: Trial) -> None: ...

    def close(self) -> None: ...
