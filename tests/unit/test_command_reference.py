"""Test that the command reference in the docs matches the program."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_what_the_program_declares() -> None:
    script = runpy.run_path(str(DOCS / "command_reference.py"))
    assert script["PAGE"].read_text(encoding="utf-8") == script["page"](), "run: python docs/command_reference.py"


def test_every_command_and_option_is_on_the_page() -> None:
    text = (DOCS / "reference" / "commands.md").read_text(encoding="utf-8")
    for line in ("## st3sweep run", "## st3sweep data pack", "| `--storage PATH` |", "| `--verbose`, `-v` |"):
        assert line in text
