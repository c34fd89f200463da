"""Choose the kernel of each convolution by measuring, once a model and machine: the choice is stored."""

from __future__ import annotations

import ctypes
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from st3sweep.sparse_runtime.convolution import Choice, Convolution, shared
from st3sweep.sparse_runtime.ops import Op

REPEATS = 3

Choices = dict[int, Choice]


def fastest(
    engine: ctypes.CDLL,
    convolutions: Mapping[int, Convolution],
    arenas: int,
    scratch: int,
    threads: int = 1,
    crew: int | None = None,
) -> Choices:
    """Return the fastest kernel of each convolution, run by ``threads`` with the help of ``crew``.

    At ``arenas`` are the addresses of the threads' arenas.
    """
    lanes = engine.engine_lanes()
    chosen = {}
    for position, convolution in convolutions.items():
        best = float("inf")
        for choice in convolution.choices(lanes):
            op = shared(convolution.built(choice, lanes), threads, lanes)
            took = engine.engine_time(crew, ctypes.addressof(op), arenas, scratch, REPEATS)
            if took < best:
                best, chosen[position] = took, choice
    return chosen


def chosen_ops(engine: ctypes.CDLL, convolutions: Mapping[int, Convolution], choices: Choices) -> dict[int, Op]:
    """Return the operations of ``choices``, and of the rule for those not among them."""
    lanes = engine.engine_lanes()
    return {
        position: convolution.built(choices.get(position) or convolution.by_rule(lanes), lanes)
        for position, convolution in convolutions.items()
    }


def stored_choices(path: Path, convolutions: Mapping[int, Convolution], lanes: int) -> Choices | None:
    """Return the choices in ``path``; None unless it has a possible one for each of ``convolutions``."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        choices = {int(position): Choice(*choice) for position, choice in found.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    if choices.keys() != convolutions.keys():
        return None
    good = all(choices[position] in one.choices(lanes) for position, one in convolutions.items())
    return choices if good else None


def written(path: Path, text: str) -> None:
    """Write ``text`` to ``path``, whole or not at all; where that fails it is measured again next time."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            file.write(text)
        os.replace(file.name, path)
    except OSError:
        pass
