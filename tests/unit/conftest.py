"""Fixtures that several unit tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from driven_sweep import Run
from searched_spaces import GRID, PLAIN, SPACE, MakeSpace

from st3sweep.space.loading import load_space
from st3sweep.space.space import Space


@pytest.fixture
def run_of(tmp_path: Path) -> Callable[[str], Run]:
    """Return a function: ``run_of("budget: {trials: 6}")`` makes a run of the driven sweep's space with more lines."""
    return lambda more: Run(tmp_path, more)


@pytest.fixture
def make_space(tmp_path: Path) -> MakeSpace:
    """Return a function: ``make_space("grid")`` makes a space for a sampler, with other fields if given."""

    def make(sampler: str, **changes: Any) -> Space:
        fields = {**{"grid": GRID, "gp": PLAIN}.get(sampler, SPACE), "searcher": {"sampler": sampler}, **changes}
        path = tmp_path / "space.yaml"
        path.write_text(yaml.safe_dump(fields, sort_keys=False))
        return load_space(path)

    return make
