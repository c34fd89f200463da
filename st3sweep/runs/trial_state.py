"""The state of one trial of a run. What is seldom needed of an ended trial stays in the run's files, read on access."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from st3sweep.runs.trial_summary import TrialSummary
from st3sweep.util.storage.interface import Storage

Record = dict[str, Any]
_SHOWN = ("epoch", "sparsity", "val_top1", "gflops")  # of the last epoch of an ended trial, in live views
_PACKED = (
    "number", "params", "digest", "workers", "gpus", "price_per_hour", "replicate_of", "status", "error", "promoted",
    "gpu_hours", "money", "began", "ended", "chosen_at", "over_at", "asked", "sampler", "warm_start",
)  # fmt: skip


class Files(NamedTuple):
    """Where trials are kept: as lines of the ledger, and their epochs in the tables."""

    storage: Storage
    ledger: str
    epochs_of: Callable[[int], dict[int, Record]]

    def event(self, offset: int) -> dict[str, Any]:
        """Return the event whose line begins at byte ``offset`` of the ledger."""
        with self.storage.open(self.ledger) as file:
            file.seek(offset)
            return dict(json.loads(file.readline()))


class EpochsInFiles(Mapping[int, Record]):
    """The epochs of an ended trial, read from the tables at each access; their number is known without."""

    def __init__(self, number: int, count: int, files: Files):
        self._number, self._count, self._files = number, count, files

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        return iter(self._files.epochs_of(self._number))

    def __getitem__(self, epoch: int) -> Record:
        return self._files.epochs_of(self._number)[epoch]


@dataclass
class Trial:
    """State of one trial according to the ledger. ``epochs`` can be written to while it is open."""

    number: int
    params: dict[str, Any]
    held_spec: dict[str, Any] | None  # None once it is read from the ledger's line
    digest: str
    workers: int
    gpus: float = 0.0  # of all its workers
    price_per_hour: float | None = None
    replicate_of: int | None = None  # number of the trial that this one repeats with another seed
    stored_summary: dict[str, Any] | None = None
    asked: int | None = None  # proposals of the search up to this one, with those that were not run
    sampler: str | None = None  # that proposed it in place of the space's, which had no proposal ready
    warm_start: str | None = None  # name of the point among those to try first
    epochs: Mapping[int, Record] = field(default_factory=dict)
    status: str = "running"  # finished | stopped | failed | running
    error: str | None = None
    result: dict[str, Any] = field(default_factory=dict)  # without layers once they are in the tables
    promoted: bool = False
    gpu_hours: float = 0.0  # while a slot had it, up to its last event; money likewise
    money: float = 0.0
    began: float | None = None  # time of its last event in a slot; None while no slot has it
    ended: float | None = None  # wall seconds of the run, as ``Ledger.wall_seconds``, when it was over
    chosen_at: int = 0  # bytes of the ledger before the line that chose it
    over_at: int = 0  # likewise before the line of its end
    shown: Record | None = None  # of its last epoch, once the epochs are in files
    files: Files | None = field(default=None, compare=False, repr=False)

    @property
    def spec(self) -> dict[str, Any]:
        """Return the resolved trial as plain data."""
        if self.held_spec is not None:
            return self.held_spec
        assert self.files is not None
        return dict(self.files.event(self.chosen_at)["spec"])

    @property
    def layers(self) -> list[dict[str, Any]]:
        """Return a row a layer of its best epoch; none if it has not finished."""
        if "layers" in self.result or self.files is None or self.status == "running":
            return list(self.result.get("layers", []))
        return list(self.files.event(self.over_at)["result"].get("layers", []))

    @property
    def last_epoch(self) -> Record:
        """Return the record of its last epoch; once it has ended perhaps only what live views show; {} without any."""
        if self.shown is not None:
            return self.shown
        return self.epochs[max(self.epochs)] if self.epochs else {}

    @cached_property
    def summary(self) -> TrialSummary | None:
        """Return its settings as tables and live views show them; None if they are not a valid trial."""
        if not self.digest:
            return None
        if self.stored_summary is not None and set(self.stored_summary) == set(TrialSummary.__dataclass_fields__):
            return TrialSummary(**self.stored_summary)
        return TrialSummary.from_stored(self.spec)

    @property
    def seed(self) -> int:
        return int(self.spec["seed"]) if self.summary is None else self.summary.seed

    @property
    def identity(self) -> str:
        """Return a key that is equal for trials that give the same numbers; see ``TrialSettings.identity``."""
        return f"{self.digest} {self.seed}"

    @property
    def is_replicate(self) -> bool:
        return self.replicate_of is not None

    @property
    def may_be_on_front(self) -> bool:
        """Return whether it finished and belongs to the search itself."""
        return self.status == "finished" and not self.is_replicate

    def packed(self) -> dict[str, Any]:
        """Return its state as plain data, without what the ledger's lines and the tables hold."""
        return {
            **{name: getattr(self, name) for name in _PACKED},
            "summary": None if self.summary is None else asdict(self.summary),
            "result": {name: value for name, value in self.result.items() if name != "layers"},
            "epochs": len(self.epochs),
            "shown": {name: value for name, value in self.last_epoch.items() if name in _SHOWN},
        }

    @classmethod
    def unpacked(cls, packed: dict[str, Any], files: Files) -> Trial:
        """Return the trial that ``packed`` describes; its epochs are read from ``files`` at each access.

        Raises KeyError and TypeError for what is no such description.
        """
        facts = {name: packed[name] for name in _PACKED}
        trial = cls(held_spec=None, stored_summary=packed["summary"], result=packed["result"], files=files, **facts)
        trial.leave_to_files(files, packed["epochs"], packed["shown"])
        return trial

    def leave_to_files(self, files: Files, epochs: int | None = None, shown: Record | None = None) -> None:
        """Free what the run's files hold of the trial: settings, epochs, layers. Texts that trials share are kept once.

        ``epochs`` are their number, ``shown`` what live views show of the last, if not what the trial holds.
        """
        count = len(self.epochs) if epochs is None else epochs
        last = self.last_epoch if shown is None else shown
        self.shown = {sys.intern(name): value for name, value in last.items() if name in _SHOWN}
        self.epochs = EpochsInFiles(self.number, count, files) if count else {}
        self.params = {sys.intern(name): value for name, value in self.params.items()}
        self.result = {sys.intern(name): value for name, value in self.result.items() if name != "layers"}
        if self.summary is not None:
            method, model, dataset = (
                sys.intern(getattr(self.summary, name)) for name in ("method", "model", "dataset")
            )
            self.summary = replace(self.summary, method=method, model=model, dataset=dataset)
            self.stored_summary = None
        self.held_spec, self.files = None, files

    def take_back(self) -> None:
        """Hold the epochs in memory again, to add to them: an ended trial was promoted."""
        self.epochs, self.shown = dict(self.epochs), None


def objective_values(trial: Trial, metrics: list[str]) -> list[float] | None:
    """Return the trial's objectives in order; None unless it finished with a finite value for each."""
    return finite_values(trial.result, metrics) if trial.status == "finished" else None


def finite_values(result: dict[str, Any], metrics: list[str]) -> list[float] | None:
    """Return the ``metrics`` of a result in order; None if one is missing or not finite."""
    values = [result.get(metric) for metric in metrics]
    finite = [float(v) for v in values if isinstance(v, int | float) and math.isfinite(v)]
    return finite if len(finite) == len(metrics) else None
