"""``StochasticMethod``: hooks for methods with a random θ̂: several passes a step, and a final choice of mask."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from st3sweep.sparse.method import Method


class StochasticMethod(Method):
    """Base of methods that draw a new θ̂ for each forward and backward pass of a step."""

    @property
    @abstractmethod
    def passes_per_step(self) -> int:
        """Return the number of passes of the next step, each with a new θ̂; loss and gradient are their mean."""

    @abstractmethod
    def begin_pass(self, number: int) -> None:
        """Draw the random part of θ̂ for pass ``number`` (from 0) of the step, until the next pass or ``refresh``."""

    @abstractmethod
    def choose_mask(self, loss: Callable[[], float]) -> None:
        """Choose the final θ̂ after training, before the last evaluation, by ``loss()`` on all training images."""


def passes_of(method: Method) -> int:
    """Return the number of forward and backward passes of the next step: one, except for stochastic methods."""
    return method.passes_per_step if isinstance(method, StochasticMethod) else 1
