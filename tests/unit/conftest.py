"""Fixtures of several unit tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from driven_sweep import Run


@pytest.fixture
def run_of(tmp_path: Path) -> Callable[[str], Run]:
    """As ``run_of("budget: {trials: 6}")``: a run of the driven sweep's space with more lines."""
    return lambda more: Run(tmp_path, more)
