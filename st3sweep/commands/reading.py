"""Read the search space or trial of a command from YAML and check it in full before any work starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from st3sweep.space.loading import load_space, load_trial
from st3sweep.space.space import Space
from st3sweep.sweep.warm_start import check_earlier_runs
from st3sweep.training.components import register_components
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.yaml_lines import read

Source = Path | str | Mapping[str, Any]  # a YAML file, or its content as plain data


def read_space(source: Source, overrides: Mapping[str, str] | None = None, plugins: Sequence[str] = ()) -> Space:
    """Read the search space in a file or mapping; ``plugins`` register models, datasets and methods that it may name.

    Raises SpecError with every problem found, those in the runs of ``warm_start.from`` included.
    """
    document = read(source)  # before the components, which take seconds to import
    register_components(plugins)
    return load_space(document, overrides, check_earlier_runs)


def read_trial(
    source: Source, overrides: Mapping[str, str] | None = None, plugins: Sequence[str] = ()
) -> TrialSettings:
    """Read the trial in a file or mapping. Raises SpecError with every problem found."""
    document = read(source)
    register_components(plugins)
    return load_trial(document, overrides)
