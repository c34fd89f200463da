"""Errors for users: one line each, saying where the mistake is, what was found and what is allowed."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)  # recoverable: resume once space is freed


@dataclass(frozen=True)
class Problem:
    """One error in an input file. ``line`` and ``column`` count from 1; None where the error has no position."""

    where: str  # file name, or the command-line option
    line: int | None
    column: int | None
    field: str  # dotted path, "" for the whole file
    message: str
    also: tuple[str, ...] = ()  # other fields of the violated rule

    def __str__(self) -> str:
        place = self.where
        if self.line is not None:
            place += f":{self.line}" if self.column is None else f":{self.line}:{self.column}"
        field = f"{self.field}: " if self.field else ""
        return " ".join(f"{place}: {field}{self.message}".splitlines())

    def named(self, field: str) -> Problem:
        """Return the same problem with its field named ``field``."""
        return replace(self, field=field)


class SpecError(Exception):
    """A specification is invalid: carries all problems found, prints one a line."""

    def __init__(self, problems: Iterable[Problem]):
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type[SpecError], tuple[list[Problem]]]:
        return (SpecError, (self.problems,))


class UserError(Exception):
    """Any other error that the user can fix: a missing run, a folder in use. One line, exit code 2."""


class ResultsError(UserError):
    """A run's tables cannot be read; the message says which file and why."""


def near_match(word: str, allowed: Iterable[str]) -> str:
    """Return ``"; did you mean X?"`` if one of ``allowed`` is close to ``word``, else the empty string."""
    close = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def near_path(dotted: str, known: Iterable[str]) -> str:
    """Return ``near_match`` for dotted paths, whose last names must be similar too; ``lr`` finds ``optim.lr``.

    Without a match, return text that lists the fields of its parent.
    """
    paths = [path for path in known if path != dotted]
    parent, _, name = dotted.rpartition(".")
    alike = [path for path in paths if difflib.SequenceMatcher(None, path.rpartition(".")[2], name).ratio() >= 0.6]
    if near := near_match(dotted, alike):
        return near
    by_name = {path.rpartition(".")[2]: path for path in reversed(alike)}
    if close := difflib.get_close_matches(name, by_name, n=1, cutoff=0.8):
        return f"; did you mean {by_name[close[0]]}?"
    beside = dict.fromkeys(path.rpartition(".")[2] for path in paths if path.rpartition(".")[0] == parent)
    return f"; {parent or 'the top level'} has: {', '.join(beside)}" if beside else ""


def shown(value: Any) -> str:
    """Format a value like YAML, on one line: text in quotes, true, null, long numbers to four digits."""
    if isinstance(value, bool | None.__class__):
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        return f"{value:.4g}" if len(repr(value)) > 8 else f"{value:g}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {shown(below)}' for key, below in value.items())}}}"
    if isinstance(value, str):
        return repr(value) if len(value) <= 80 else f"{value[:77]!r}..."
    return str(value)
