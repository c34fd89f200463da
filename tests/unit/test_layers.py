"""Imports point downwards only: each layer in a fresh interpreter, which then tells what it has loaded."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import analysis
import st3sweep

HEAVY = {"torch", "ray", "optuna"}
# What each layer may load of these. Packages stand for all modules that they have, now and later.
LAYERS: dict[str, tuple[list[str], set[str]]] = {
    "numpy only": (
        [
            "st3sweep",
            *(f"st3sweep.{name}" for name in ("spec", "space", "loading", "results", "frontier", "schedules")),
            *("st3sweep.recipes", "st3sweep.plan", "st3sweep.data", "st3sweep.cli", "st3sweep.networks"),
            *("st3sweep.sweep", "st3sweep.sweep.ledger", "st3sweep.sweep.mailbox"),
            *("st3sweep.sweep.schedulers", "st3sweep.sweep.replay", "st3sweep.scheduling"),
        ],
        set(),
    ),
    "analysis": (["analysis.*"], set()),
    "training without Ray": (
        [
            *(f"st3sweep.{name}.*" for name in ("training", "sparse", "models", "data")),
            "st3sweep.cost",
            "st3sweep.single",
        ],
        {"torch"},
    ),
    "search": (["st3sweep.sweep.search"], {"optuna"}),
}


def modules(name: str) -> list[str]:
    """``name``, or for ``package.*`` the package with all modules below it."""
    if not name.endswith(".*"):
        return [name]
    *above, package = name.removesuffix(".*").split(".")
    root = {"st3sweep": st3sweep, "analysis": analysis}[above[0] if above else package]
    found = [info.name for info in pkgutil.walk_packages(root.__path__, f"{root.__name__}.")]
    prefix = ".".join([*above, package])
    return [prefix, *(module for module in found if module.startswith(f"{prefix}."))]


def loaded_by(imports: list[str]) -> set[str]:
    """Which heavy packages a fresh interpreter has after ``imports``."""
    code = f"import sys, {', '.join(imports)}; print(*sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.long
@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_loads_only_what_it_may(layer: str) -> None:
    names, allowed = LAYERS[layer]
    imports = [module for name in names for module in modules(name)]
    if surplus := loaded_by(imports) - allowed:
        culprits = [module for module in imports if loaded_by([module]) & surplus]
        pytest.fail(f"{', '.join(culprits)} must not import {', '.join(sorted(surplus))}")


def test_new_modules_are_found() -> None:
    assert {"st3sweep.sparse", "st3sweep.sparse.methods.st3", "st3sweep.sparse.method"} <= set(
        modules("st3sweep.sparse.*")
    )
    assert "st3sweep.space" not in modules("st3sweep.sparse.*")
    assert "analysis.tables" in modules("analysis.*")


def test_ray_is_told_what_to_do_before_it_is_imported() -> None:
    """Ray reads its environment when it is imported: importing the package sets it, and a user's own setting wins."""
    code = "import os, st3sweep.sweep; print(os.environ['RAY_USAGE_STATS_ENABLED'], os.environ['RAY_AIR_NEW_OUTPUT'])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"RAY_AIR_NEW_OUTPUT": "1"}
    )
    assert done.stdout.split() == ["0", "1"]
