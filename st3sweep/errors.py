"""What a user's mistake looks like: one line each, saying where it is, what was found and what was allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing wrong in an input file. ``line`` and ``column`` count from 1; None where no line is to blame."""

    where: str  # file name, or the command-line option
    line: int | None
    column: int | None
    field: str  # dotted path, "" for the whole file
    message: str

    def __str__(self) -> str:
        place = self.where
        if self.line is not None:
            place += f":{self.line}:{self.column}"
        field = f"{self.field}: " if self.field else ""
        return f"{place}: {field}{self.message}"


class SpecError(Exception):
    """A specification that cannot be run: carries every problem that was found, prints one a line."""

    def __init__(self, problems: Iterable[Problem]):
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type[SpecError], tuple[list[Problem]]]:
        return (SpecError, (self.problems,))


class UserError(Exception):
    """Anything else that the user can mend: a missing run, a folder in use. One line, exit code 2."""


def near_match(word: str, allowed: Iterable[str]) -> str:
    """``"; did you mean X?"`` where one of ``allowed`` is close to ``word``, else the empty string."""
    close = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
