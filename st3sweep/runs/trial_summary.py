"""Summarise a stored trial's settings for tables and live views, without torch, registry or plugin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from st3sweep.trial.recipes import resolve
from st3sweep.trial.settings import TrialSettings, unregistered


@dataclass(frozen=True)
class TrialSummary:
    """Settings that are columns of ``tables.TRIALS``, and ``epochs`` of the whole training, fine-tuning included."""

    method: str
    model: str
    dataset: str
    seed: int
    sparsity_target: float | None
    gflops_target: float | None
    epochs: int

    @classmethod
    def of(cls, settings: TrialSettings) -> TrialSummary:
        return cls(
            method=settings.sparsity.label,
            model=settings.model.label,
            dataset=settings.data.dataset,
            seed=settings.seed,
            sparsity_target=settings.sparsity.final_sparsity,
            gflops_target=settings.gflops.target if settings.gflops else None,
            epochs=settings.total_epochs,
        )

    @classmethod
    def from_stored(cls, settings: dict[str, Any]) -> TrialSummary | None:
        """Summarise settings stored without a summary, as runs before 0.2 did; None if they are not a valid trial.

        Where the method, model or data are not registered, their names replace the labels.
        """
        try:
            if not unregistered(settings):
                return cls.of(resolve(settings))
            method, target = settings["sparsity"]["method"], settings["sparsity"].get("target")
            return cls(
                method=method,
                model=settings["model"]["arch"],
                dataset=settings["data"]["dataset"],
                seed=settings["seed"],
                sparsity_target=0.0 if method == "dense" else target,
                gflops_target=(settings.get("gflops") or {}).get("target"),
                epochs=settings["train"]["epochs"] + settings["train"]["finetune_epochs"],
            )
        except (ValidationError, KeyError, TypeError, AttributeError):
            return None
