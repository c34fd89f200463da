"""``Metric``: a measure of a user's own, beside top-1 accuracy."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # a stored run is read without torch
    from torch import Tensor

_BUILT_IN = ("loss", "top1", "top5")


@dataclass(frozen=True)
class Metric:
    """A measure of the outputs on a whole split, in the columns ``val_<name>`` and ``test_<name>``.

    ``function(outputs, labels)`` gets the model's outputs on all images, (N, classes) float32, and their labels, (N,)
    int64, both on the CPU, and returns a number; ``goal`` says whether larger ("max") or smaller ("min") is better. The
    epoch that is best by it is the trial's result, in place of the one with the best top-1 accuracy, and a space may
    name ``val_<name>`` as an objective.

    Raises ValueError for a name that is no identifier or that a column has already.
    """

    name: str
    function: Callable[[Tensor, Tensor], float | Tensor]
    goal: Literal["max", "min"] = "max"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name) or self.name in _BUILT_IN:
            raise ValueError(
                f"metric {self.name!r}: needs a name of small letters, digits and _, not {', '.join(_BUILT_IN)}"
            )
        if self.goal not in ("max", "min"):
            raise ValueError(f"metric {self.name}: goal is {self.goal!r}; allowed: max, min")

    @property
    def column(self) -> str:
        """Return the column of its value on the validation images."""
        return f"val_{self.name}"

    @property
    def test_column(self) -> str:
        """Return the column of its value on the test images."""
        return f"test_{self.name}"
