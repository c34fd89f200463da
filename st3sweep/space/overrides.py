"""Override fields of a search space or a trial: ``--set`` of the commands, ``overrides`` in Python."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from st3sweep.space.config import OLD_KEYS
from st3sweep.space.field_errors import top_paths
from st3sweep.trial.paths import all_paths
from st3sweep.util.errors import Problem, SpecError, near_path
from st3sweep.util.yaml_lines import Document, parse_value

COMMAND_LINE, PYTHON = "--set", "overrides"


class Overrides(dict[str, str]):
    """Values as YAML text by dotted path; ``option`` is what the user gave them as, which errors name."""

    def __init__(self, values: Mapping[str, str] | Iterable[tuple[str, str]] = (), option: str = COMMAND_LINE):
        super().__init__(values)
        self.option = option

    @classmethod
    def of(cls, overrides: Mapping[str, str] | None) -> Overrides:
        """Return ``overrides`` themselves, if they know what they were given as, else as those of the command line."""
        return overrides if isinstance(overrides, Overrides) else cls(overrides or {})

    def updated(self, path: str, text: str) -> Overrides:
        """Return these with the value of ``path`` replaced."""
        return Overrides({**self, path: text}, self.option)

    def where(self, path: str) -> str:
        """Return what errors call the override of ``path``, e.g. ``--set train.epochs=3``."""
        return f"{self.option} {path}={self[path]}"


def override_trial(document: Document, overrides: Overrides) -> None:
    """Apply ``overrides`` to a single trial. Raises SpecError."""
    for dotted in overrides:
        _check_known(dotted, all_paths(), overrides.where(dotted))
        document.set(dotted.split("."), _value(dotted, overrides), overrides.where(dotted))


def override_space(document: Document, overrides: Overrides) -> None:
    """Apply ``overrides``: paths of the trial, of the rest of the space, or ``search.PATH`` for a distribution.

    Raises SpecError.
    """
    known = [*top_paths(), *all_paths()]
    for dotted in overrides:
        first, _, rest = dotted.partition(".")
        where = overrides.where(dotted)
        if first == "search" and rest:
            _check_known(rest, all_paths(), where)
            document.set(["search", rest], _value(dotted, overrides), where)
            continue
        path = rest if first == "trial" and rest else dotted
        if first in OLD_KEYS:
            path = ".".join([OLD_KEYS[first], *([rest] if rest else [])])
        _check_known(path, known, where)
        value = _value(dotted, overrides)
        in_trial = path not in top_paths() or first == "trial"
        document.set([*(["trial"] if in_trial else []), *path.split(".")], value, where)
        if in_trial:
            _fix(document, path, value, where)


def _fix(document: Document, path: str, value: Any, where: str) -> None:
    """Fix a searched field at ``value``; drop searched fields below it, or active only at other values of it."""
    search = document.data.get("search")
    if not isinstance(search, dict) or not search:
        return
    gone = {searched for searched in search if searched == path or searched.startswith(f"{path}.")}
    for searched, distribution in search.items():
        when = distribution.get("when") if isinstance(distribution, dict) else None
        if isinstance(when, dict) and path in when:
            wanted = when[path] if isinstance(when[path], list) else [when[path]]
            gone |= set() if value in wanted else {searched}
    for searched in gone:
        del search[searched]
    if not search:
        message = "leaves nothing to search; run a single trial with: st3sweep train"
        raise SpecError([Problem(where, None, None, path, message)])


def _value(dotted: str, overrides: Overrides) -> Any:
    try:
        return parse_value(overrides[dotted])
    except ValueError as error:
        raise SpecError([Problem(overrides.where(dotted), None, None, dotted, f"not YAML: {error}")]) from None


def _check_known(path: str, known: list[str], where: str) -> None:
    if path not in known:
        raise SpecError([Problem(where, None, None, path, f"unknown field{near_path(path, known)}")])
