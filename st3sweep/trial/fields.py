"""Building blocks of settings: strict frozen records, errors of rules between fields, and times."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError


class Frozen(BaseModel):
    """Immutable record that rejects unknown fields, non-finite numbers and booleans as numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _true_is_not_one(cls, data: Any) -> Any:
        for name, value in data.items() if isinstance(data, dict) else ():
            if isinstance(value, bool) and name in cls.model_fields and cls.model_fields[name].annotation is not bool:
                raise PydanticCustomError("truth", "must not be true or false", {"name": name, "value": value})
        return data


def fail(field: str, message: str, *also: str) -> PydanticCustomError:
    """Return the error of a rule between ``field``, a dotted path from the top of the spec, and the fields ``also``."""
    return PydanticCustomError("rule", "{message}", {"message": message, "field": field, "also": also})


class Epochs(Frozen):
    """A time given in epochs."""

    epochs: float = Field(ge=0)


def _kind_of_time(value: Any) -> str:
    return "in epochs" if isinstance(value, Epochs | dict) else "fraction"


Time = Annotated[
    Annotated[float, Field(ge=0, le=1), Tag("fraction")] | Annotated[Epochs, Tag("in epochs")],
    Discriminator(_kind_of_time),
]


def fraction(time: float | Epochs, epochs: int) -> float:
    """Return ``time`` as a fraction of a training of ``epochs`` epochs."""
    return time.epochs / epochs if isinstance(time, Epochs) else float(time)
