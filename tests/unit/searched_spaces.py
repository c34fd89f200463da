"""Spaces for each sampler, and searches in which a trial's values depend on its point only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from st3sweep.search.searcher import Searcher
from st3sweep.space.space import Point, Space

MakeSpace = Callable[..., Space]
SAMPLERS = ["tpe", "nsga2", "random", "qmc", "grid"]
SPACE: dict[str, Any] = {
    "schema": "st3sweep/v1",
    "name": "study",
    "seed": 7,
    "trial": {"model": {"arch": "cifar_resnet"}, "data": {"dataset": "digits"}},
    "search": {
        "sparsity.method": {"choice": ["st3", "dense"]},
        "sparsity.target": {"float": [0.5, 0.99], "scale": "log1m", "when": {"sparsity.method": "st3"}},
        "optim.lr": {"float": [0.01, 1.0], "scale": "log"},
        "model.depth": {"int": [8, 20], "step": 6},
    },
    "constraints": ["optim.lr <= 0.3"],
    "budget": {"trials": 12},
}
GRID: dict[str, Any] = {
    **SPACE,
    "search": {
        "sparsity.method": {"choice": ["st3", "dense"]},
        "sparsity.target": {"choice": [0.5, 0.9], "when": {"sparsity.method": "st3"}},
        "model.depth": {"int": [8, 20], "step": 6},
    },
    "constraints": ["model.depth + 100 * sparsity.target <= 105"],
}
GRID_POINTS = [("st3", 0.5, 8), ("st3", 0.9, 8), ("st3", 0.5, 14), ("st3", 0.9, 14), ("st3", 0.5, 20)]
GRID_POINTS += [("dense", None, 8), ("dense", None, 14), ("dense", None, 20)]
PLAIN: dict[str, Any] = {  # no conditional fields, no constraints
    **SPACE,
    "trial": {**SPACE["trial"], "sparsity": {"method": "st3"}},
    "search": {path: range_ for path, range_ in SPACE["search"].items() if path != "sparsity.method"}
    | {"sparsity.target": {"float": [0.5, 0.99], "scale": "log1m"}},
    "constraints": [],
}


def folder(tmp_path: Path, name: str = "run") -> Path:
    (tmp_path / name).mkdir(exist_ok=True)
    return tmp_path / name


def told(searcher: Searcher, count: int, values_of: Callable[[Point], list[float]] | None = None) -> list[Point]:
    """Ask for and tell the next ``count`` points; a trial's values depend on its point only."""
    points = []
    for _ in range(count):
        number, point = searcher.ask()
        searcher.tell(number, (values_of or default_values)(point))
        points.append(point)
    return points


def default_values(point: Point) -> list[float]:
    cost = 1 - point.get("sparsity.target", 0.0)
    return [50 + 10 * cost + point["model.depth"] / 10, cost * point["model.depth"]]


def as_tuple(point: Point) -> tuple[Any, ...]:
    return point["sparsity.method"], point.get("sparsity.target"), point["model.depth"]
