"""What only methods with a random θ̂ need: several passes a step, and a mask that is chosen at the end."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from st3sweep.sparse.method import Method


class StochasticMethod(Method):
    """A method whose θ̂ is drawn anew for each forward and backward pass of a step."""

    @property
    @abstractmethod
    def passes_per_step(self) -> int:
        """Forward and backward passes of the next step, each with θ̂ of its own; loss and gradient are their mean."""

    @abstractmethod
    def begin_pass(self, number: int) -> None:
        """Draw what is random in θ̂ for pass ``number`` of the step, from 0; kept until the next pass or ``refresh``."""

    @abstractmethod
    def choose_mask(self, loss: Callable[[], float]) -> None:
        """At the end of training, before its last evaluation: settle θ̂; ``loss()`` is that on all training images."""


def passes_of(method: Method) -> int:
    """Forward and backward passes of the next step: one, but for stochastic methods."""
    return method.passes_per_step if isinstance(method, StochasticMethod) else 1
