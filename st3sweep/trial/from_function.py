"""Make a settings class from a function: ``register_model("mine", build)``, and likewise for datasets and methods.

The parameters of the function that the package does not pass itself become the fields of the class: their annotations
are the types, their defaults the defaults.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FunctionType, MappingProxyType
from typing import Any, Literal

from pydantic import create_model

from st3sweep.trial.registry import Registered, register


@dataclass(frozen=True)
class FunctionForm:
    """How a kind is made from a function: ``passed`` are the parameters that the package passes where it has them.

    ``attributes(call)`` returns what the class defines; ``call(settings, **passed)`` calls the function with the fields
    of the settings. ``fields`` are further fields, as pydantic's ``create_model`` takes them.
    """

    passed: tuple[str, ...]
    attributes: Callable[[Callable[..., Any]], dict[str, Any]]
    fields: dict[str, Any] = field(default_factory=dict)


def registering(
    kind: type[Any], form: FunctionForm, what: Any, function: Callable[..., Any] | None, **attached: Any
) -> Any:
    """Register ``what``, a settings class or a name; a name without its ``function`` gives a decorator for one.

    ``attached`` are class attributes, of those in ``kind.attached``. Returns what a decorator returns: the class or
    function itself.
    """
    if isinstance(what, type):
        return register(what)

    def named(function: Callable[..., Any]) -> Callable[..., Any]:
        register_function(kind, form, what, function, attached=attached)
        return function

    return named if function is None else named(function)


def register_function(
    kind: type[Any],
    form: FunctionForm,
    name: str,
    function: Callable[..., Any],
    hints: dict[str, Any] | None = None,
    attached: Mapping[str, Any] = MappingProxyType({}),
) -> type[Any]:
    """Register a subclass of ``kind`` under ``name`` and return it; its instances call ``function``.

    ``hints`` are the types of its parameters, where the function has lost the names that its annotations use;
    ``attached`` are class attributes. Raises ValueError for a name that is taken, and for a parameter that cannot be a
    field.
    """
    if not name or not isinstance(name, str):
        raise ValueError(f"a {kind.key} needs a name (got {name!r})")
    parameters = _parameters(kind, name, function)
    own = [parameter for parameter in parameters if parameter.name not in form.passed]
    _check(kind, name, own)
    hints = _hints(kind, name, function, own) if hints is None else hints
    accepted = {parameter.name for parameter in parameters} & set(form.passed)

    @functools.wraps(function)
    def call(settings: Registered, **values: Any) -> Any:
        given = {key: value for key, value in values.items() if key in accepted}
        return function(**given, **{parameter.name: getattr(settings, parameter.name) for parameter in own})

    fields: dict[str, Any] = {kind.key: (Literal[name], name), **form.fields}  # type: ignore[valid-type]
    for parameter in own:
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    make: Any = create_model  # its result is a class that mypy cannot know
    made = make(name, __base__=kind, __module__=function.__module__, **fields)
    made.__doc__ = (inspect.getdoc(function) or "").partition("\n\n")[0] or f"Settings of {name}."
    made.function, made.hints = staticmethod(function), hints  # workers register it again
    for attribute, value in form.attributes(call).items():
        setattr(made, attribute, value)
    for attribute, value in attached.items():
        setattr(made, attribute, staticmethod(value) if isinstance(value, FunctionType) else value)
    registered: type[Any] = register(made)
    return registered


def _parameters(kind: type[Any], name: str, function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise ValueError(f"{kind.key} {name}: the signature cannot be read ({error})") from None


def _check(kind: type[Any], name: str, own: Sequence[inspect.Parameter]) -> None:
    for parameter in own:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise ValueError(f"{kind.key} {name}: {parameter} cannot be a setting; name each parameter")
        if parameter.name in kind.model_fields or hasattr(kind, parameter.name):
            message = f"is the name of a field that every {kind.key} has; choose another name"
            raise ValueError(f"{kind.key} {name}: {parameter.name} {message}")


def _hints(kind: type[Any], name: str, function: Any, own: Sequence[inspect.Parameter]) -> dict[str, Any]:
    """Return the type of each parameter: its annotation, else that of its default, else any."""
    defining = vars(function).get("__init__") if isinstance(function, type) else function
    known = getattr(defining, "__globals__", {})
    hints: dict[str, Any] = {}
    for parameter in own:
        hint = parameter.annotation
        if hint is parameter.empty:
            hint = Any if parameter.default in (parameter.empty, None) else type(parameter.default)
        elif isinstance(hint, str):
            try:
                hint = eval(hint, known)  # what ``typing.get_type_hints`` does for all annotations at once
            except Exception as error:
                raise ValueError(f"{kind.key} {name}: {parameter.name}: {hint} is no type here ({error})") from None
        hints[parameter.name] = hint
    return hints
