"""Test how YAML is read: scalars of YAML 1.2, and files that would take all memory or never end."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from st3sweep.util.errors import SpecError
from st3sweep.util.yaml_lines import parse_value, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1:30", "1:30"), ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"), ("y", "y"),
        ("2024-01-01", "2024-01-01"), ("1_000", "1_000"), ("0b11", "0b11"), ("190:20:30", "190:20:30"),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("010", 10), ("0o17", 15), ("0x1F", 31), ("+12", 12), ("-3", -3),
        ("1e-4", 1e-4), ("1.", 1.0), ("-.5", -0.5), ("12e3", 12000.0), (".inf", math.inf), ("-.INF", -math.inf),
        ("'1e-4'", "1e-4"), ('"true"', "true"), ("1e", "1e"), ("e5", "e5"), (".", "."), ("-", None),
    ],
)  # fmt: skip
def test_scalars_are_those_of_the_core_schema(text: str, value: Any) -> None:
    """https://yaml.org/spec/1.2.2/#103-core-schema; "-" alone is a list of nothing."""
    found = parse_value(text)
    assert (found, type(found)) == ((value, type(value)) if text != "-" else ([None], list))


def test_merge_keys_still_work(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("base: &base {a: 1, b: 2}\nmore: {<<: *base, b: 3}\n")
    assert read_yaml(tmp_path / "a.yaml").data["more"] == {"a": 1, "b": 3}


def _doubling(levels: int, width: int) -> str:
    lines = ["a0: &a0 [" + ", ".join("x" * width) + "]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_doubling(9, 9), "has 490,329,064 values with its aliases expanded; at most 20,000 are read"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested more than 100 deep, or an alias of itself"),
        ("a: " + "{b: " * 150 + "}" * 150, "nested more than 100 deep, or an alias of itself"),
        ("a: [" + "x, " * 300_000 + "]", "has more than 20,000 values"),
        ("a: " + "x" * (1 << 20), "is larger than 1 MiB"),
        ("a: &a [*a]", ":1:4: a.0: refers to itself"),
    ],
    ids=["aliases", "lists", "mappings", "values", "scalar", "itself"],
)
def test_a_hostile_file_is_refused_in_a_line_at_once(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(content)
    with pytest.raises(SpecError) as caught:
        read_yaml(tmp_path / "a.yaml")
    assert str(caught.value).removeprefix(f"{tmp_path / 'a.yaml'}").removeprefix(": ") == message


def test_aliases_within_reason_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(_doubling(3, 9))
    assert len(read_yaml(tmp_path / "a.yaml").data["a2"]) == 9
