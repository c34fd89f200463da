"""Run and record the short trainings that a method may need before the first step (``Method.prepare``)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from st3sweep.data import Splits
from st3sweep.training.checkpoint_files import PILOTS
from st3sweep.training.world import World
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.storage.atomic import atomic_write

FILE = "calibration.json"


@dataclass(frozen=True)
class Pilot:
    """Record of one short training, with its final ``sparsity``."""

    sparsity: float
    seconds: float
    training_gflops: float
    digest: str = ""  # of the pilot's settings; before 0.2 none was recorded
    settings: dict[str, Any] = field(default_factory=dict)  # of its method


class Pilots:
    """Callable that trains a pilot by its settings and returns its final sparsity, the same on all ranks.

    Pilots train in ``folder`` by ``fit``, so that they too resume after an interruption. Outcomes are recorded there in
    calibration.json: when the trial resumes, the same pilots in the same order return their recorded outcome. Pilots
    never see the test set.
    """

    def __init__(self, fit: Callable[..., dict[str, Any]], world: World, folder: Path, splits: Splits):
        self._fit, self._world, self._folder = fit, world, folder
        self._splits = replace(splits, test=None)
        self._recorded: list[Pilot] | None = None
        self._asked: list[Pilot] = []

    def __call__(self, settings: TrialSettings) -> float:
        number = len(self._asked)
        if self._recorded is None:
            self._recorded = self._world.broadcast(self._read() if self._world.is_main else None)
        if number < len(self._recorded) and self._recorded[number].digest in ("", settings.digest()):
            self._asked.append(self._recorded[number])
        else:
            del self._recorded[number:]  # they answer other questions than those that follow now
            place = self._folder / PILOTS / str(number)
            result = self._fit(settings, self._world, lambda _: False, place, self._splits)
            spent = (result["wall_seconds"], result["training_gflops"])
            method = settings.sparsity.model_dump(mode="json", exclude_none=True)
            self._asked.append(Pilot(result["sparsity"], *spent, settings.digest(), method))
            self._write({})
        return self._asked[-1].sparsity

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of all pilots together."""
        return sum(pilot.seconds for pilot in self._asked)

    @property
    def training_gflops(self) -> float:
        """Training cost of all pilots together."""
        return sum(pilot.training_gflops for pilot in self._asked)

    def close(self, found: dict[str, Any]) -> None:
        """Record what the method ``found`` with the pilots, and remove their checkpoints."""
        if self._asked:
            self._write(found)
            if self._world.is_main:
                shutil.rmtree(self._folder / PILOTS, ignore_errors=True)

    def _read(self) -> list[Pilot]:
        path = self._folder / FILE
        if not path.is_file():
            return []
        pilots = []
        for row in json.loads(path.read_text())["pilots"]:
            method = row.get("settings") or {name: row[name] for name in ("s_init",) if name in row}  # before 0.2
            pilots.append(Pilot(row["sparsity"], row["seconds"], row["training_gflops"], row.get("digest", ""), method))
        return pilots

    def _write(self, found: dict[str, Any]) -> None:
        if self._world.is_main:
            self._folder.mkdir(parents=True, exist_ok=True)
            content = {**found, "pilots": [asdict(pilot) for pilot in self._asked]}
            with atomic_write(self._folder / FILE) as file:
                file.write(json.dumps(content, indent=2).encode() + b"\n")
