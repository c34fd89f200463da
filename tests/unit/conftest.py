"""Fixtures that several unit tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from driven_sweep import Run


@pytest.fixture
def run_of(tmp_path: Path) -> Callable[[str], Run]:
    """Return a function: ``run_of("budget: {trials: 6}")`` makes a run of the driven sweep's space with more lines."""
    return lambda more: Run(tmp_path, more)
