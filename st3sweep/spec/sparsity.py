"""Fields of a space's ``sparsity``: the methods, each with its own settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from st3sweep.spec.fields import Frozen, Time


class Ramp(Frozen):
    """When sparsity rises from 0 to its target, and how steeply."""

    start: Time
    end: Time
    power: float = Field(gt=0)


class ST3(Frozen):
    """ST-3 and ST-3σ with their switches (``sparse/methods/st3.py``)."""

    method: Literal["st3"]
    target: float = Field(ge=0, lt=1)
    criterion: Literal["l1", "sigma"] = "l1"
    soft: bool = True
    rescale: bool = True
    backward: Literal["straight_through", "masked"] = "straight_through"
    ramp: Ramp

    @property
    def label(self) -> str:
        """As the papers name it; a switch that is off is said."""
        name = "ST-3σ" if self.criterion == "sigma" else "ST-3"
        off = [word for word, on in (("soft", self.soft), ("rescale", self.rescale)) if not on]
        masked = ["masked"] if self.backward == "masked" else []
        return " ".join([name, *(f"no-{word}" for word in off), *masked])


class Dense(Frozen):
    """No sparsity: the network as it is."""

    method: Literal["dense"]

    @property
    def target(self) -> float:
        return 0.0

    @property
    def label(self) -> str:
        return "dense"


SparsitySpec = Annotated[ST3 | Dense, Field(discriminator="method")]
