"""Check each searched field: it exists, is not fixed as well, and accepts every value of its distribution."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from st3sweep.space.config import METRICS, OLD_KEYS
from st3sweep.space.distributions import Choice, Distribution, FloatRange
from st3sweep.space.field_errors import explain
from st3sweep.space.space import ABSENT, Space, look_up
from st3sweep.trial.model import ModelConfig
from st3sweep.trial.paths import all_paths, fields_at
from st3sweep.trial.registry import members_of
from st3sweep.util.errors import Problem, near_match, near_path, shown

_NOT_OF_A_TRIAL = (
    *("resources", "budget", "replicates", "early_stopping", "warm_start", "measure"),
    *("searcher", "objectives", "constraints", "name", "schema", *OLD_KEYS),
)
_BETTER = {"max": "larger", "min": "smaller"}
SAME_FOR_EVERY_TRIAL = ("recipe", "data.root", "data.pack", "data.download")


def check_search(space: Space) -> Iterator[Problem]:
    """Yield the problems of the searched fields, and of the ``when`` conditions on valid ones."""
    no_mappings = {problem.field: problem for path in space.config.search for problem in _scalars_above(space, path)}
    yield from no_mappings.values()
    wrong = {path: message for path in space.config.search if (message := _not_searchable(space, path))}
    for path, distribution in space.config.search.items():
        if path not in wrong and (message := _refused(space, path, distribution)) is not None:
            wrong[path] = message
    for path, message in wrong.items():
        yield space.document.problem(("search", path), message)
    for path in space.config.search:
        yield from _check_condition(space, path, wrong)


def check_sampler(space: Space) -> Iterator[Problem]:
    """Yield the conditional fields of a gp search: it models only shared fields and draws the others at random."""
    for path, distribution in space.config.search.items():
        if space.config.searcher.sampler == "gp" and distribution.when is not None:
            message = "sampler gp models only fields that every trial has; leave out when, or use sampler tpe"
            yield space.document.problem(("search", path, "when"), message)


def check_budget(space: Space) -> Iterator[Problem]:
    """Yield a problem if the budget is missing; only a grid is finite."""
    sampler, budget = space.config.searcher.sampler, space.config.budget
    if sampler != "grid" and budget.trials is None and not budget.limits():
        message = f"is missing: sampler {sampler} needs budget.trials or budget.wall"
        at = next((p for p in (("budget",), ("searcher", "sampler"), ("searcher",)) if p in space.document.marks), ())
        yield space.document.problem(at, message).named("budget.trials")


def check_objectives(space: Space) -> Iterator[Problem]:
    """Yield the objectives that are no metric of every model of the space, or have another goal than the metric."""
    arch = space.config.search.get("model.arch")
    names = [space.value("model.arch", {})] if arch is None else arch.values()  # type: ignore[union-attr]
    models = [ModelConfig.registered[name] for name in names if name in ModelConfig.registered]
    for index, objective in enumerate(space.config.objectives):
        if objective.metric in METRICS:
            continue
        for model in models:
            metric, where = model.metric, ("objectives", index)
            if metric is None or metric.column != objective.metric:
                allowed = [*METRICS, *([] if metric is None else [metric.column])]
                near = near_match(objective.metric, allowed)
                message = f"is {shown(objective.metric)}, allowed: {', '.join(allowed)}{near}"
                yield space.document.problem((*where, "metric"), message)
                break
            if metric.goal != objective.goal:
                message = f"is {objective.goal}, but metric {metric.name} is better {_BETTER[metric.goal]}"
                yield space.document.problem((*where, "goal"), message)
                break


def searchable_paths() -> list[str]:
    """List the fields of a trial that can be searched: single values, except those equal in all trials."""
    lists = [path for path in all_paths() if any(get_origin(field.annotation) is tuple for field in fields_at(path))]
    return [
        path
        for path in all_paths()
        if not (path in SAME_FOR_EVERY_TRIAL or _is_node(path) or any(path.startswith(one) for one in lists))
    ]


def _not_searchable(space: Space, path: str) -> str | None:
    if path.split(".")[0] in _NOT_OF_A_TRIAL:
        return "cannot be searched: it is not a field of a trial"
    if path in SAME_FOR_EVERY_TRIAL:
        return "cannot be searched: it is the same in all trials"
    if not fields_at(path):
        return f"no such field in a trial{near_path(path, all_paths())}"
    if _is_node(path):
        below = [known for known in searchable_paths() if known.startswith(f"{path}.")]
        return f"is not a single value; search one of its fields: {', '.join(below)}"
    if look_up(space.config.trial, path) is not ABSENT:
        line = space.document.marks.get(("trial", *path.split(".")), (None, None, None))[1]
        return f"is searched, but also fixed under trial{f' on line {line}' if line else ''}; remove one"
    return None


def _is_node(path: str) -> bool:
    """Whether ``path`` contains fields and is never a single value. Times may be either; lists are neither."""
    return all(_only_models(field) for field in fields_at(path))


def _only_models(field: FieldInfo) -> bool:
    if not members_of(field.annotation):
        return False
    try:
        _adapter(field).validate_python(0.5)
    except ValidationError as error:
        return error.errors()[0]["type"].startswith(("model_", "dict_"))
    return False


def _scalars_above(space: Space, path: str) -> Iterator[Problem]:
    """Yield a fixed value that is not a mapping although a field below it is searched."""
    keys = path.split(".")[:-1]
    for depth in range(1, len(keys) + 1):
        node = look_up(space.config.trial, ".".join(keys[:depth]))
        if node is not ABSENT and not isinstance(node, dict):
            message = f"must be a mapping of names to values (got {shown(node)}): fields below it are searched"
            yield space.document.problem(("trial", *keys[:depth]), message).named(".".join(keys[:depth]))
            return


def _check_condition(space: Space, path: str, wrong: Container[str]) -> Iterator[Problem]:
    """Yield the problems of a field's ``when``: unknown fields, impossible values. Ignores fields in ``wrong``."""
    for other, wanted in (space.config.search[path].when or {}).items():
        if other in wrong:
            continue
        where = ("search", path, "when", other)
        values = wanted if isinstance(wanted, list) else [wanted]
        if not fields_at(other):
            yield space.document.problem(where, f"no such field in a trial{near_path(other, all_paths())}")
        elif other in space.config.search:
            never = [value for value in values if not _can_be(space.config.search[other], value)]
            if never:
                yield space.document.problem(where, f"is never {shown(never[0])}; {_range(space, other, never[0])}")
        elif (fixed := space.value(other, {})) is ABSENT:
            yield space.document.problem(where, "is neither searched nor fixed, so this is never active")
        elif fixed not in values:
            yield space.document.problem(where, f"is fixed to {shown(fixed)}, so this is never active")


def _can_be(distribution: Distribution, value: Any) -> bool:
    return not isinstance(distribution, FloatRange) and value in distribution.values()


def _range(space: Space, path: str, value: Any) -> str:
    distribution = space.config.search[path]
    if isinstance(distribution, Choice):
        choices = [choice if isinstance(choice, str) else shown(choice) for choice in distribution.choice]
        return f"its choices: {', '.join(choices)}{near_match(str(value), choices)}"
    if isinstance(distribution, FloatRange):
        return "it is searched as a range, which no single value is likely to hit"
    return f"it is searched from {distribution.int_[0]} to {distribution.int_[1]} in steps of {distribution.step}"


def _refused(space: Space, path: str, distribution: Distribution) -> str | None:
    """Return why every field at ``path`` refuses some value of the distribution; None if all values are accepted."""
    if space.config.searcher.sampler == "grid" and isinstance(distribution, FloatRange):
        return "sampler grid needs choice or int here, not float"
    fields, values = fields_at(path), distribution.ends()
    if isinstance(distribution, FloatRange):  # an integer field accepts 1.0, but not the values between
        values.insert(0, distribution.float_[0] + 0.381966 * (distribution.float_[1] - distribution.float_[0]))
    words = [get_args(field.annotation) for field in fields if get_origin(field.annotation) is Literal]
    allowed = list(dict.fromkeys(itertools.chain(*words)))
    for value in values:
        if allowed and value not in allowed:
            near = near_match(str(value), map(str, allowed))
            return f"can become {shown(value)}, allowed: {', '.join(map(str, allowed))}{near}"
        reasons: dict[str, None] = {}
        for field in fields:
            try:
                _adapter(field).validate_python(value)
                break
            except ValidationError as error:
                reasons[explain(error)] = None
        else:
            if isinstance(distribution, FloatRange) and list(reasons) == ["must be a whole number"]:
                return "is a whole number: search it with int: [low, high]"
            return f"can become {shown(value)}: {', or '.join(reasons)}"
    return None


def _adapter(field: FieldInfo) -> TypeAdapter[Any]:
    """Return a validator of one field alone, with its bounds and discriminator."""
    kind: Any = Annotated[field.annotation, field]
    return TypeAdapter(kind)
