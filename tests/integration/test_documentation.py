"""Run the Python examples of README.md and docs/python.md, page by page, from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from programs import PROJECT, ended, forked

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_the_examples_of_a_page_run(page: str, tmp_path: Path) -> None:
    blocks = BLOCK.findall((PROJECT / page).read_text(encoding="utf-8"))
    assert blocks
    blocks.append('import sys; print("dashboard imported:", "ray.dashboard.optional_deps" in sys.modules)\n')
    (tmp_path / "examples.py").write_text("\n".join(blocks))
    with forked(str(tmp_path / "examples.py"), folder=tmp_path) as running:
        code, output = ended(running)
    assert code == 0, output
    if page == "docs/python.md":
        assert (tmp_path / "best.safetensors").exists()
        assert "GFLOPs dense" in output
        assert "dashboard imported: False" in output, "it takes the start of a sweep more than a second"
