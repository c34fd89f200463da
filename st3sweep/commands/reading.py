"""Read the search space or trial of a command from YAML and check it in full before any work starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from st3sweep.space.loading import load_space, load_trial
from st3sweep.space.space import Space
from st3sweep.sweep.warm_start import check_earlier_runs
from st3sweep.training.components import register_components
from st3sweep.trial.settings import TrialSettings


def read_space(file: Path, overrides: Mapping[str, str] | None = None, plugins: Sequence[str] = ()) -> Space:
    """Read the search space in ``file``; ``plugins`` register models, datasets and methods that it may name.

    Raises SpecError with every problem found, those in the runs of ``warm_start.from`` included.
    """
    register_components(plugins)
    return load_space(file, overrides, check_earlier_runs)


def read_trial(file: Path, overrides: Mapping[str, str] | None = None, plugins: Sequence[str] = ()) -> TrialSettings:
    """Read the trial in ``file``. Raises SpecError with every problem found."""
    register_components(plugins)
    return load_trial(file, overrides)
