"""Register the models, datasets and methods that a trial may name: one settings class each, under its names.

``ModelConfig``, ``DataConfig`` and ``MethodConfig`` are the three kinds. A field of such a type accepts every
registered class of its kind, distinguished by the kind's ``key``; the class builds what its settings describe. The
package registers its classes when ``networks``, ``data`` and ``sparse.methods`` are imported, a plugin when its module
is.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self, TypeVar, Union, get_args

from pydantic import BaseModel, Field, GetCoreSchemaHandler, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema

from st3sweep.trial.code_hash import code_hash
from st3sweep.trial.fields import Frozen

_dependants: list[type[BaseModel]] = []  # pydantic models with a field of a kind: rebuilt on registration


class Registered(Frozen):
    """Base of the three kinds. ``key`` is the field that holds the name, a Literal in each registered class."""

    key: ClassVar[str]
    registered: ClassVar[dict[str, type[Any]]]  # by name, one dict a kind
    function: ClassVar[Any] = None  # that the class was made from, if it was (``from_function``)
    hints: ClassVar[dict[str, Any]] = {}  # types of its parameters
    code: ClassVar[str] = ""  # hash of code from outside the package (``code_hash``): part of a trial's digest
    attached: ClassVar[tuple[str, ...]] = ()  # names of further attributes with code, None where absent

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        if "registered" not in cls.__dict__ or not cls.__pydantic_complete__:  # a registered class, or still being made
            return handler(source)
        if not cls.registered:
            raise RuntimeError(
                f"no {cls.key} is registered yet: call st3sweep.training.components.register_components() first"
            )
        members = tuple(members_of(cls))
        union: Any = Union[members]  # noqa: UP007 (built at run time)
        return handler.generate_schema(Annotated[union, Field(discriminator=cls.key)] if members[1:] else union)

    @classmethod
    def attachments(cls) -> dict[str, Any]:
        """Return the attributes named in ``attached`` that are not None."""
        values = {name: getattr(cls, name) for name in cls.attached}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def parse(cls, fields: Any) -> Self:
        """Parse ``fields`` as the registered class that they name. Raises pydantic's ValidationError."""
        kind: Any = Annotated[cls, "by key"]  # the plain class would be read as itself
        settings: Self = TypeAdapter(kind).validate_python(fields)
        return settings


Config = TypeVar("Config", bound=type[Registered])


def register(config: Config) -> Config:
    """Register a settings class under the names that its ``key`` field allows, and return it: a class decorator.

    Registering a class again under the same module and name replaces it. Raises ValueError if the field allows no
    names, or one that another class has.
    """
    fields: dict[str, FieldInfo] = config.model_fields  # type: ignore[call-overload]
    field = fields.get(config.key)
    names = [name for name in get_args(field.annotation) if isinstance(name, str)] if field else []
    if not names:
        raise ValueError(f"{config.__name__}.{config.key} must be a Literal of one name or more")
    for name in names:
        other = config.registered.get(name, config)
        if (other.__module__, other.__qualname__) != (config.__module__, config.__qualname__):
            raise ValueError(f"the {config.key} {name} is registered already, by {other.__module__}")
    if "code" not in config.__dict__:
        config.code = code_hash(config.function or config, *config.attachments().values())
    known = {**config.registered, **dict.fromkeys(names, config)}
    config.registered.clear()
    config.registered.update(sorted(known.items()))  # by name: the order of imports must not show in messages
    _rebuild_dependants()
    return config


def unregister(kind: type[Registered], name: str) -> None:
    """Remove the class that is registered as ``name``, so that no trial can name it any more."""
    del kind.registered[name]
    _rebuild_dependants()


def depends_on_registry(model: type[BaseModel]) -> None:
    """Rebuild ``model`` whenever a class is registered after it was built."""
    _dependants.append(model)


def _rebuild_dependants() -> None:
    for model in _dependants:
        if model.__pydantic_complete__:
            model.model_rebuild(force=True)


def members_of(annotation: Any) -> list[type[BaseModel]]:
    """Return the pydantic models of an annotation: unwraps unions and ``Annotated``, lists all classes of a kind."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if "registered" in annotation.__dict__:
            return list(dict.fromkeys(annotation.registered.values()))  # type: ignore[attr-defined]
        return [annotation]
    return [model for part in get_args(annotation) for model in members_of(part)]
