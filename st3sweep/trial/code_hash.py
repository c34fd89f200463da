"""Identify by a hash what a trial takes from outside the package: code, and files of trained weights."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

PACKAGE = __name__.partition(".")[0]


def code_hash(made: Any, *more: Any) -> str:
    """Return twelve hex digits for the code of a class or function; the empty string for the package's own.

    The file of its module is hashed. In a notebook or a script, where that file says little, it is its own source and
    that of everything in the notebook that it uses. ``more`` are hashed with it; an object with a ``function`` stands
    for that and for its other fields.
    """
    if not more:
        return _code_hash(made)
    parts = [_code_hash(made)]
    for one in more:
        facts = {key: value for key, value in getattr(one, "__dict__", {}).items() if isinstance(value, str)}
        parts += [_code_hash(getattr(one, "function", one)), repr(sorted(facts.items()))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _code_hash(made: Any) -> str:
    module = getattr(made, "__module__", None) or ""
    if module.partition(".")[0] == PACKAGE:
        return ""
    if module == "__main__":
        content = "\n".join(sorted(_sources(made, set()))).encode()
    else:
        try:
            content = Path(inspect.getfile(made)).read_bytes()
        except (OSError, TypeError):
            content = "\n".join(_sources(made, set())).encode()
    return hashlib.sha256(content).hexdigest()[:12]


def _sources(made: Any, seen: set[int]) -> Iterator[str]:
    """Yield the source of each function that ``made`` consists of, and of what these use from the same module."""
    if id(made) in seen:
        return
    seen.add(id(made))
    if isinstance(made, type):
        yield f"class {made.__qualname__}({', '.join(base.__qualname__ for base in made.__bases__)})"
        for part in (*made.__bases__, *vars(made).values()):
            part = getattr(part, "__func__", getattr(part, "fget", part))  # static and class methods, properties
            if getattr(part, "__module__", None) == made.__module__:
                yield from _sources(part, seen)
    elif isinstance(made, FunctionType):
        try:
            yield inspect.getsource(made)
        except (OSError, TypeError):  # typed at a prompt
            yield made.__code__.co_code.hex() + repr(made.__code__.co_consts)
        used = inspect.getclosurevars(made)
        for value in (*used.globals.values(), *used.nonlocals.values()):
            if getattr(value, "__module__", None) == made.__module__:
                yield from _sources(value, seen)


def file_hash(path: str) -> str:
    """Return twelve hex digits for the content of a file; the text ``absent`` where it cannot be read."""
    try:
        stat = Path(path).stat()
    except OSError:
        return "absent"
    return _content_hash(path, stat.st_size, stat.st_mtime_ns)


@cache
def _content_hash(path: str, size: int, changed: int) -> str:  # noqa: ARG001 (both are keys of the cache)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
