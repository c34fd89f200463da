"""Log trials to TensorBoard, MLflow or Weights & Biases through Ray Tune's loggers.

To Tune a slot is a trial, which these loggers must not see. So the sweep calls them itself and wraps each of its trials
in Tune's trial interface. A logger that fails is reported once and does not affect the sweep.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray.tune.logger import LoggerCallback

from st3sweep.runs.folder import trial_folder
from st3sweep.runs.ledger import Trial
from st3sweep.util.errors import UserError

_NEEDS = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}


def check(names: Sequence[str]) -> None:
    """Raise UserError for an unknown name, or one whose package is not installed."""
    for name in names:
        if name not in _NEEDS:
            raise UserError(f"--track {name}: allowed: {', '.join(_NEEDS)}")
        if importlib.util.find_spec(_NEEDS[name]) is None:
            raise UserError(f"--track {name}: needs the package {_NEEDS[name]}; pip install 'st3sweep[{name}]'")


class _AsTuneTrial:
    """A trial with the part of Tune's trial interface that the loggers use."""

    def __init__(self, trial: Trial, run: Path):
        place = hashlib.sha256(str(run).encode()).hexdigest()[:6]
        self.trial_id = f"{run.name}-{place}-{trial.number:04d}"  # W&B's run id: kept when resumed, unique to this run
        self.trial_name = self.experiment_tag = f"trial-{trial.number:04d}"
        self.experiment_dir_name = run.name
        self.config = self.evaluated_params = dict(trial.params)
        self.local_path = self.path = self.logdir = str(trial_folder(run, trial.number))
        self.trainable_name = "st3sweep"

    def __str__(self) -> str:
        return self.trial_name

    def init_local_path(self) -> None:
        Path(self.local_path).mkdir(parents=True, exist_ok=True)


class Tracking:
    """Passes trials to the loggers called ``names``; ``say`` prints a line for the user."""

    def __init__(self, names: Sequence[str], run: Path, say: Callable[[str], None]):
        self.run, self._say = run, say
        self._loggers: list[tuple[str, LoggerCallback]] = []
        self._trials: dict[int, _AsTuneTrial] = {}
        self._used = False
        for name in dict.fromkeys(names):
            self._safely(name, self._set_up, name)

    def _set_up(self, name: str) -> None:
        logger = _logger(name, self.run)
        logger.setup()
        self._loggers.append((name, logger))

    def started(self, trial: Trial) -> None:
        """Log the start of a trial when a slot first has it."""
        if trial.number not in self._trials:
            dressed = _AsTuneTrial(trial, self.run)
            dressed.init_local_path()
            self._trials[trial.number], self._used = dressed, True
            self._all("log_trial_start", dressed)

    def epoch(self, trial: Trial, record: dict[str, Any]) -> None:
        """Log an epoch."""
        seen = self._trials.get(trial.number)
        if seen is not None:
            numbers = {key: value for key, value in record.items() if isinstance(value, int | float)}
            result = {**numbers, "training_iteration": record["epoch"], "timesteps_total": record["epoch"]}
            self._all("log_trial_result", record["epoch"], seen, result)

    def done(self, trial: Trial) -> None:
        """Log the end of a trial."""
        seen = self._trials.pop(trial.number, None)
        if seen is not None:
            self._all("log_trial_end", seen, trial.status == "failed")

    def close(self) -> None:
        """End all logging. Call it while Ray is running: W&B's logger has actors that upload."""
        for number in list(self._trials):
            self._all("log_trial_end", self._trials.pop(number), False)
        for name, logger in list(self._loggers) if self._used else []:
            self._safely(name, lambda logger=logger: logger.on_experiment_end(trials=[]))  # type: ignore[misc]
        self._loggers = []

    def _all(self, event: str, *arguments: Any) -> None:
        for name, logger in list(self._loggers):
            self._safely(name, getattr(logger, event), *arguments)

    def _safely(self, name: str, call: Callable[..., Any], *arguments: Any) -> None:
        try:
            call(*arguments)
        except Exception as error:
            self._loggers = [one for one in self._loggers if one[0] != name]
            self._say(f"--track {name}: disabled, the sweep continues ({type(error).__name__}: {error})")


def _logger(name: str, run: Path) -> LoggerCallback:
    if name == "tensorboard":
        from ray.tune.logger import TBXLoggerCallback

        return TBXLoggerCallback()
    if name == "mlflow":
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        return MLflowLoggerCallback(experiment_name=run.name)  # address: MLFLOW_TRACKING_URI
    from ray.air.integrations.wandb import WandbLoggerCallback

    return WandbLoggerCallback(project="st3sweep", group=run.name, resume="allow")
