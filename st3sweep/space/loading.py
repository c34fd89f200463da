"""Read a search space or a trial from its file, override fields, and check it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from st3sweep.space.config import OLD_KEYS, SpaceConfig
from st3sweep.space.constraints import Constraint, ConstraintError
from st3sweep.space.field_errors import problems_of
from st3sweep.space.first_points import check_first_points
from st3sweep.space.overrides import Overrides, override_space, override_trial
from st3sweep.space.point_checks import check_points
from st3sweep.space.prices import CPU, Price, price_of
from st3sweep.space.search_checks import check_budget, check_objectives, check_sampler, check_search
from st3sweep.space.space import Space
from st3sweep.trial.paths import all_paths, fields_at
from st3sweep.trial.recipes import resolve
from st3sweep.trial.settings import TrialSettings
from st3sweep.util.errors import Problem, SpecError, UserError, near_path
from st3sweep.util.storage.urls import check_url, url_of
from st3sweep.util.yaml_lines import Document, Path_, read, read_yaml


def load_space(
    source: Path | str | Mapping[str, Any] | Document,
    overrides: Mapping[str, str] | None = None,
    more_checks: Callable[[Space], Iterable[Problem]] = lambda _: (),
) -> Space:
    """Read, override and check the search space in a file or mapping. Raises SpecError with every problem.

    Models, datasets and methods must be registered (``training.components``). Of ``warm_start.from`` only the form is
    checked here; ``more_checks``, from an upper floor, checks the earlier runs.
    """
    document = source if isinstance(source, Document) else read(source)
    if "model" in document.data and not {"trial", "search"} & set(document.data):
        message = "this is a single trial, not a search space; run it with: st3sweep train"
        raise SpecError([document.problem(("model",), message).named("")])
    rename_old_keys(document)
    override_space(document, Overrides.of(overrides))
    expand_paths(document, ("trial",))
    expand_runs(document)
    config, price = _take_price(_validated(document), document)
    space = Space(config, _parse_constraints(config, document), document, price)
    problems = [*check_search(space), *check_sampler(space), *check_budget(space), *check_objectives(space)]
    if problems:
        raise SpecError(problems)
    check_points(space)
    if problems := [*check_first_points(space), *more_checks(space)]:
        raise SpecError(problems)
    return space


def load_stored_space(path: Path | str) -> Space:
    """Read the space of a run, checked when the run started: no registry, plugin or torch is needed."""
    document = read_yaml(path)
    rename_old_keys(document)
    config = _validated(document)
    return Space(config, tuple(map(Constraint.parse, config.constraints)), document)


def _validated(document: Document) -> SpaceConfig:
    try:
        return SpaceConfig.model_validate(document.data)
    except ValidationError as error:
        raise SpecError(problems_of(error, document, (), SpaceConfig)) from None


def _take_price(config: SpaceConfig, document: Document) -> tuple[SpaceConfig, Price | None]:
    """Replace ``budget.prices`` by the price that it names: a run keeps that, whatever becomes of the file."""
    budget, resources = config.budget, config.resources
    if budget.prices is None:
        return config, None
    if resources.gpus and resources.accelerator is None:
        message = "needs resources.accelerator: the kind of GPU whose price it is"
        raise SpecError([document.problem(("budget", "prices"), message)])
    path = _absolute(document, ("budget", "prices"), budget.prices, "budget.prices")
    try:
        price = price_of(Path(path), resources.accelerator or CPU, budget.market or "on_demand")
    except UserError as error:
        raise SpecError([document.problem(("budget", "prices"), str(error))]) from None
    taken = {"prices": None, "market": None, "price_per_device_hour": price.per_device_hour}
    given = {**document.data["budget"], **taken}
    document.data["budget"] = {name: value for name, value in given.items() if value is not None}
    return config.model_copy(update={"budget": budget.model_copy(update=taken)}), price


def rename_old_keys(document: Document) -> None:
    """Rename keys of older versions to their present names."""
    for old, new in OLD_KEYS.items():
        if old in document.data and new in document.data:
            raise SpecError([document.problem((old,), f"is the old name of {new}, which is also given; remove one")])
        if old in document.data:
            document.rename(old, new)


def load_trial(
    source: Path | str | Mapping[str, Any] | Document, overrides: Mapping[str, str] | None = None
) -> TrialSettings:
    """Read, override and check one trial: a file or mapping with the fields of a space's ``trial``."""
    document = source if isinstance(source, Document) else read(source)
    if {"trial", "search"} <= set(document.data):
        message = "this is a search space, not a single trial; run it with: st3sweep run"
        raise SpecError([document.problem(("search",), message).named("")])
    override_trial(document, Overrides.of(overrides))
    expand_paths(document, ())
    try:
        return resolve(document.data)
    except ValidationError as error:
        raise SpecError(problems_of(error, document, (), TrialSettings)) from None


def expand_paths(document: Document, prefix: tuple[str, ...]) -> None:
    """Expand ~ and environment variables in the trial's paths and make them absolute, the same for all workers."""
    trial: Any = document.data
    for key in prefix:
        trial = trial.get(key) if isinstance(trial, dict) else None
    for part, name in (("data", "root"), ("data", "pack"), ("model", "weights")):
        fields: Any = trial.get(part) if isinstance(trial, dict) else None
        text = fields.get(name) if isinstance(fields, dict) else None
        if isinstance(text, str) and (part == "data" or "." in text or "/" in text):  # else the name of weights
            fields[name] = _absolute(document, (*prefix, part, name), text, f"{part}.{name}")


def expand_runs(document: Document) -> None:
    """Expand ~ and environment variables in the folders of ``warm_start.from`` and make them absolute."""
    warm_start = document.data.get("warm_start")
    runs: Any = warm_start.get("from") if isinstance(warm_start, dict) else None
    for index, folder in enumerate(runs if isinstance(runs, list) else []):
        if isinstance(folder, str):
            runs[index] = _absolute(document, ("warm_start", "from", index), folder, f"warm_start.from[{index}]")


def _absolute(document: Document, where: Path_, text: str, field: str) -> str:
    expanded = os.path.expandvars(os.path.expanduser(text))
    if unset := re.search(r"\$(\w+|\{\w+\})", expanded):
        message = f"the environment variable {unset[1].strip('{}')} is not set (got {text!r})"
        raise SpecError([document.problem(where, message).named(field)])
    if field == "data.pack" and url_of(expanded):
        try:
            return check_url(expanded)
        except UserError as error:
            raise SpecError([document.problem(where, str(error)).named(field)]) from None
    return os.path.abspath(expanded)


def _parse_constraints(spec: SpaceConfig, document: Document) -> tuple[Constraint, ...]:
    parsed, problems = [], []
    for index, text in enumerate(spec.constraints):
        try:
            constraint = Constraint.parse(text)
            for path in constraint.paths:
                if not fields_at(path):
                    raise ConstraintError(f"unknown field {path}{near_path(path, all_paths())}")
            parsed.append(constraint)
        except ConstraintError as error:
            problems.append(document.problem(("constraints", index), f"{text!r}: {error}"))
    if problems:
        raise SpecError(problems)
    return tuple(parsed)
