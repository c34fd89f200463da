"""Test that ``constraints-oldest.txt``, which CI tests, pins the lower bounds of ``pyproject.toml``."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins(file: str) -> dict[str, Version]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {name: Version(version) for name, version in pairs}


@pytest.mark.parametrize("text", PROJECT["dependencies"])
def test_the_oldest_pin_is_the_lower_bound(text: str) -> None:
    requirement = Requirement(text)
    (bound,) = (Version(one.version) for one in requirement.specifier if one.operator == ">=")
    pin = pins("constraints-oldest.txt")[requirement.name]
    assert pin.release[: len(bound.release)] == bound.release
    assert pins("constraints.txt")[requirement.name] >= pin
