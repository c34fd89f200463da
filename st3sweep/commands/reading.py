"""Read what a command is given: a search space or a trial in YAML, checked in full before any work starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from st3sweep.space.loading import load_space, load_trial
from st3sweep.space.space import Space
from st3sweep.sweep.warm_start import check_earlier_runs
from st3sweep.training.components import register_components
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.errors import SpecError


def read_space(file: Path, overrides: Mapping[str, str] | None = None, plugins: Sequence[str] = ()) -> Space:
    """The search space in ``file``; ``plugins`` register what it may name beside the package's own.

    Raises SpecError with every problem that was found, the runs of ``warm_start.from`` included.
    """
    register_components(plugins)
    space = load_space(file, overrides)
    if problems := list(check_earlier_runs(space)):
        raise SpecError(problems)
    return space


def read_trial(file: Path, overrides: Mapping[str, str] | None = None, plugins: Sequence[str] = ()) -> TrialSettings:
    """The trial in ``file``. Raises SpecError with every problem that was found."""
    register_components(plugins)
    return load_trial(file, overrides)
