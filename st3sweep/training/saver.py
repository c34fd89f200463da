"""When and where a trial's two checkpoints are written: the last state, and the best epoch's weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from st3sweep.training import checkpoint
from st3sweep.training.checkpoint_files import BEST, LAST
from st3sweep.training.state import State
from st3sweep.training.world import World

_ASK_EVERY = 16  # steps between two broadcasts of rank 0's decision whether to save
_LISTEN_SECONDS = 1.0  # between two questions whether this machine is about to be taken away


def best_interval(save_seconds: float, seconds_between_losses: float) -> float:
    """Return the seconds between checkpoints that waste least: √(2CM), for C seconds a checkpoint and M between losses.

    Source: Young 1974, equation 3; the first order of Daly 2006. It holds for C far below M.
    """
    return math.sqrt(2.0 * save_seconds * seconds_between_losses)


class Preempted(Exception):
    """A machine of the trial is about to be taken away; its state has been saved."""


class Saver:
    """Writer of a trial's two checkpoints: rank 0 writes them, with the state of all ranks.

    ``leave`` is asked by rank 0, once a second, whether the trial must leave its machines. With
    ``seconds_between_losses`` of one of them the interval follows from the measured duration of a checkpoint.
    """

    def __init__(
        self,
        folder: Path,
        world: World,
        interval_seconds: float,
        inputs: dict[str, Any],
        *,
        keep_previous: bool,
        leave: Callable[[], bool] = lambda: False,
        seconds_between_losses: float | None = None,
    ):
        self.folder, self.world, self.interval_seconds = folder, world, interval_seconds
        self.inputs, self.keep_previous, self.leave = inputs, keep_previous, leave
        self.seconds_between_losses = seconds_between_losses
        self.saved = self.listened = time.perf_counter()

    def save_if_due(self, state: State) -> None:
        """Save within an epoch if the interval has passed by rank 0's clock, or if the trial must leave its machines.

        Raises Preempted, on all ranks, after saving in the second case.
        """
        if self.world.size > 1 and state.step % _ASK_EVERY and self.interval_seconds:
            return
        due, leaving = self.world.broadcast(self._decide())
        if due or leaving:
            self.save(state)
        if leaving:
            raise Preempted(f"saved at step {state.step} of epoch {state.epoch + 1}")

    def _decide(self) -> tuple[bool, bool]:
        """Return whether to save, and whether to leave; only rank 0's answer counts."""
        now, leaving = time.perf_counter(), False
        if self.world.is_main and now - self.listened >= _LISTEN_SECONDS:
            self.listened, leaving = now, self.leave()
        return now - self.saved >= self.interval_seconds, leaving

    def save(self, state: State) -> None:
        began = time.perf_counter()
        content = state.to_checkpoint(self.world)
        if self.world.is_main:
            checkpoint.save(self.folder / LAST, content, state.method, keep_previous=self.keep_previous)
        self.keep_previous, self.saved = True, time.perf_counter()
        if self.seconds_between_losses is not None:  # only rank 0's counts, which wrote
            self.interval_seconds = best_interval(self.saved - began, self.seconds_between_losses)

    def save_best(self, state: State) -> None:
        """Save the weights of the best epoch so far, on which the trial's result is based."""
        if self.world.is_main:
            content = {"model": state.model.state_dict(), "method": state.method.state_dict(), "input": self.inputs}
            checkpoint.save(self.folder / BEST, content, state.method)


def load_last(folder: Path, world: World) -> tuple[dict[str, Any] | None, list[str]]:
    """Call ``checkpoint.load_latest`` on all ranks. Raises RuntimeError where they do not share the folder."""
    world.broadcast(None)  # rank 0 may still be writing for an earlier call
    saved, refused = checkpoint.load_latest(folder / LAST, world.device)
    place = None if saved is None else [saved["epoch"], saved["step"]]
    if world.broadcast(place) != place:
        raise RuntimeError(f"{folder / LAST}: rank {world.rank} sees another checkpoint than rank 0; is it shared?")
    return saved, refused
