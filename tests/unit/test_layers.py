"""Test which heavy packages each part of the package loads, in a fresh interpreter."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import st3sweep

HEAVY = {"torch", "ray", "optuna"}
# Which of these each part may load. ``package.*`` stands for all modules of a package, present and future.
PARTS: dict[str, tuple[list[str], set[str]]] = {
    "reading runs and analysis": (
        [
            *("st3sweep", "st3sweep.pareto", "st3sweep.cli", "st3sweep.commands.status", "st3sweep.sweep.status"),
            *("st3sweep.util.*", "st3sweep.trial.*", "st3sweep.space.*", "st3sweep.runs.*", "st3sweep.reporting.*"),
            *("st3sweep.early_stopping.*", "st3sweep.data", "st3sweep.execution.mailbox", "st3sweep.analysis.*"),
        ],
        set(),
    ),
    "training without Ray": (
        [
            *(f"st3sweep.{name}.*" for name in ("training", "sparse", "networks", "data", "export")),
            "st3sweep.commands.train",
        ],
        {"torch"},
    ),
    "search": (["st3sweep.search.searcher"], {"optuna"}),
}


def modules(name: str) -> list[str]:
    """Return ``name``, or for ``package.*`` the package with all modules below it."""
    if not name.endswith(".*"):
        return [name]
    prefix = name.removesuffix(".*")
    found = [info.name for info in pkgutil.walk_packages(st3sweep.__path__, "st3sweep.")]
    return [prefix, *(module for module in found if module.startswith(f"{prefix}."))]


def loaded_by(imports: list[str]) -> set[str]:
    """Return the heavy packages that a fresh interpreter has loaded after ``imports``."""
    code = f"import sys, {', '.join(imports)}; print(*sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.long
@pytest.mark.parametrize("part", PARTS)
def test_a_part_loads_only_what_it_may(part: str) -> None:
    names, allowed = PARTS[part]
    imports = [module for name in names for module in modules(name)]
    if surplus := loaded_by(imports) - allowed:
        culprits = [module for module in imports if loaded_by([module]) & surplus]
        pytest.fail(f"{', '.join(culprits)} must not import {', '.join(sorted(surplus))}")


def test_new_modules_are_found() -> None:
    assert {"st3sweep.sparse", "st3sweep.sparse.methods.st3", "st3sweep.sparse.method"} <= set(
        modules("st3sweep.sparse.*")
    )
    assert "st3sweep.space" not in modules("st3sweep.sparse.*")


@pytest.mark.parametrize(("heavy", "folder"), [("ray", "execution"), ("optuna", "search")])
def test_only_one_folder_imports_it(heavy: str, folder: str) -> None:
    root = Path(st3sweep.__file__).parent
    importers = {
        path.relative_to(root).parts[0]
        for path in root.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip().startswith((f"import {heavy}", f"from {heavy}"))
    }
    assert importers == {folder}


def test_rays_environment_is_set_before_it_is_imported() -> None:
    """Ray reads its environment on import: importing the package sets it, and a user's own setting takes precedence."""
    names = ("RAY_USAGE_STATS_ENABLED", "RAY_AIR_NEW_OUTPUT")
    code = f"import os, st3sweep.execution; print(*(os.environ[name] for name in {names}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"RAY_AIR_NEW_OUTPUT": "1"}
    )
    assert done.stdout.split() == ["0", "1"]
