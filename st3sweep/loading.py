"""Reading a search space or a trial from its file, with ``--set`` applied; every mistake is found here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from st3sweep.checks import check_points, check_search
from st3sweep.constraints import Constraint, ConstraintError
from st3sweep.errors import Problem, SpecError, near_match
from st3sweep.recipes import resolve
from st3sweep.space import Space, SweepSpec
from st3sweep.spec import TrialSpec, all_paths, fields_at
from st3sweep.validation import problems_of, top_paths
from st3sweep.yaml_file import Document, read_yaml


def load_space(path: Path | str, overrides: Mapping[str, str] | None = None) -> Space:
    """Read, override (``--set``) and check a search space. Raises SpecError with every problem that was found."""
    document = read_yaml(path)
    apply_overrides(document, overrides or {})
    expand_paths(document, ("trial",))
    spec = _validated(SweepSpec, document)
    constraints = _parse_constraints(spec, document)
    space = Space(spec, constraints, document)
    problems = [*check_search(space)]
    if problems:
        raise SpecError(problems)
    check_points(space)
    return space


def load_trial(path: Path | str, overrides: Mapping[str, str] | None = None) -> TrialSpec:
    """Read one trial: a file with the fields of a space's ``trial`` part."""
    document = read_yaml(path)
    for dotted, text in (overrides or {}).items():
        _check_known(dotted, text, all_paths())
        document.set(dotted, text)
    expand_paths(document, ())
    try:
        return resolve(document.data)
    except ValidationError as error:
        raise SpecError(problems_of(error, document, ())) from None


def apply_overrides(document: Document, overrides: Mapping[str, str]) -> None:
    """``--set``: a path of the file's top level, or of the trial. Setting a searched field fixes it."""
    top = [field.alias or name for name, field in SweepSpec.model_fields.items()]
    for dotted, text in overrides.items():
        if dotted.split(".")[0] in top:
            _check_known(dotted, text, [*top, *top_paths()], prefixes=("trial", "search"))
            document.set(dotted, text)
            continue
        _check_known(dotted, text, [*all_paths(), *top_paths()])
        search = document.data.get("search")
        if isinstance(search, dict):
            search.pop(dotted, None)
        if not isinstance(document.data.get("trial"), dict):
            document.data["trial"] = {}
        document.set(f"trial.{dotted}", text)
        document.marks[("trial", *dotted.split("."))] = (f"--set {dotted}={text}", None, None)


def _check_known(dotted: str, text: str, known: list[str], prefixes: tuple[str, ...] = ()) -> None:
    if dotted in known or dotted.split(".")[0] in prefixes:
        return
    message = f"unknown field{near_match(dotted, known)}"
    raise SpecError([Problem(f"--set {dotted}={text}", None, None, dotted, message)])


def expand_paths(document: Document, prefix: tuple[str, ...]) -> None:
    """Make ``data.root`` absolute, environment variables and ~ expanded, so that workers elsewhere see the same."""
    path = (*prefix, "data", "root")
    data = document.data
    for key in path[:-1]:
        data = data.get(key) if isinstance(data, dict) else None  # type: ignore[assignment]
    if not isinstance(data, dict) or not isinstance(data.get("root"), str):
        return
    expanded = os.path.expandvars(os.path.expanduser(data["root"]))
    if "$" in expanded:
        raise SpecError([document.problem(path, f"names an environment variable that is not set (got {expanded!r})")])
    data["root"] = os.path.abspath(expanded)


def _validated(model: type[SweepSpec], document: Document) -> SweepSpec:
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        raise SpecError(problems_of(error, document, ())) from None


def _parse_constraints(spec: SweepSpec, document: Document) -> tuple[Constraint, ...]:
    parsed, problems = [], []
    for index, text in enumerate(spec.constraints):
        try:
            constraint = Constraint.parse(text)
            for path in constraint.paths:
                if not fields_at(path):
                    raise ConstraintError(f"unknown field {path}{near_match(path, all_paths())}")
            parsed.append(constraint)
        except ConstraintError as error:
            problems.append(document.problem(("constraints", index), f"{text!r}: {error}"))
    if problems:
        raise SpecError(problems)
    return tuple(parsed)
