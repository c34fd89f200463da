"""Test the floors of the package: a folder imports only from itself and from those below it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import st3sweep

ROOT = Path(st3sweep.__file__).parent
# From the top to the ground, as in docs/architecture.md. ``__init__`` and ``__main__`` stand above all.
FLOORS = (
    "cli", "commands", "execution", "sweep", "search", "early_stopping", "reporting", "export", "analysis", "runs",
    "training", "sparse", "data", "networks", "space", "trial", "util", "sparse_runtime",
    "pareto",
)  # fmt: skip
DIRECTLY = {"__init__.py", "__main__.py", "py.typed", "pareto.py"}  # files that lie in no folder


def floor(module: str) -> int:
    """Return the height of ``module``, e.g. ``st3sweep.sparse.masks``: the ground is 0."""
    parts = module.split(".")
    if len(parts) == 1 or parts[1] == "__main__":
        return len(FLOORS)
    return len(FLOORS) - 1 - FLOORS.index(parts[1])


def imports(source: str, module: str, *, package: bool) -> Iterator[tuple[int, str]]:
    """Yield (line, module) of every import of st3sweep in ``source``, lazy ones and those under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names if name.name.split(".")[0] == "st3sweep")
        elif isinstance(node, ast.ImportFrom):
            found = node.module or ""
            if node.level:
                base = module.split(".")[: len(module.split(".")) - node.level + package]
                found = ".".join([*base, *([node.module] if node.module else [])])
            if found == "st3sweep":  # from st3sweep import data
                for name in node.names:
                    below = f"st3sweep.{name.name}"
                    yield node.lineno, below if name.name in FLOORS else "st3sweep"
            elif found.split(".")[0] == "st3sweep":
                yield node.lineno, found


def upward(source: str, module: str, *, package: bool = False) -> list[str]:
    """Return the imports of ``source`` that point to a higher floor than that of ``module``."""
    return [
        f"{module}:{line} imports {found}"
        for line, found in imports(source, module, package=package)
        if floor(found) > floor(module)
    ]


def modules() -> list[tuple[str, Path]]:
    """Return every module of the package with its file."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


def test_imports_point_downwards() -> None:
    found = [
        line
        for module, path in modules()
        for line in upward(path.read_text(encoding="utf-8"), module, package=path.name == "__init__.py")
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "from st3sweep.sweep.state import Sweep",
        "import st3sweep.execution.driver",
        "from st3sweep import commands",
        "from st3sweep import __version__",
        "def f():\n    from st3sweep.cli import main",
        "if TYPE_CHECKING:\n    from st3sweep.training.loop import fit",
        "from ..training import loop",
        "from .. import training",
    ],
)
def test_an_upward_import_is_found(line: str) -> None:
    assert len(upward(line, "st3sweep.sparse.masks")) == 1


def test_downward_and_sideways_imports_pass() -> None:
    source = "from st3sweep import pareto\nfrom st3sweep.sparse.method import Method\nfrom .method import Method\n"
    assert upward(source, "st3sweep.sparse.masks") == []
    assert upward("from .masks import largest", "st3sweep.sparse", package=True) == []


def test_every_folder_has_a_floor() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/*.py")}
    assert folders == set(FLOORS) - {"pareto"}


def test_few_files_lie_in_no_folder() -> None:
    assert {path.name for path in ROOT.iterdir() if path.is_file()} == DIRECTLY
