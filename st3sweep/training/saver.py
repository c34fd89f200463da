"""When and where a trial's two checkpoints are written: the last state, and the best epoch's weights."""

from __future__ import annotations

import copy
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from st3sweep.sparse import flat
from st3sweep.sparse.method import Method
from st3sweep.training import checkpoint
from st3sweep.training.checkpoint_files import BEST, LAST
from st3sweep.training.state import State
from st3sweep.training.world import World
from st3sweep.util.storage.interface import Storage

_ASK_EVERY = 16  # steps between two broadcasts of rank 0's decision whether to save
_LISTEN_SECONDS = 1.0  # between two questions whether this machine is about to be taken away
_WAITING = 2  # checkpoints that are written while training continues: of an epoch, the best and the last


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
    ``seconds_between_losses`` of one of them the interval follows from the measured time that a checkpoint takes from
    training.

    On a GPU a thread writes copies of the state, in order, while training continues, which takes as many more bytes of
    memory; each file is still whole or absent. An error while writing is raised by a later call. Leaving the context
    waits for the files.
    """

    def __init__(
        self,
        storage: Storage,
        world: World,
        interval_seconds: float,
        inputs: dict[str, Any],
        *,
        keep_previous: bool,
        leave: Callable[[], bool] = lambda: False,
        seconds_between_losses: float | None = None,
    ):
        self.storage, self.world, self.interval_seconds = storage, world, interval_seconds
        self.inputs, self.keep_previous, self.leave = inputs, keep_previous, leave
        self.seconds_between_losses = seconds_between_losses
        self.saved = self.listened = time.perf_counter()
        self._thread: ThreadPoolExecutor | None = None
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> Saver:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            with suppress(*([] if kind is None else [Exception])):  # the first error is the one to tell
                self.wait()
        finally:
            if self._thread is not None:
                self._thread.shutdown()

    def wait(self, left: int = 0) -> None:
        """Wait until at most ``left`` files are still to be written."""
        while len(self._waiting) > left:
            self._waiting.popleft().result()

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
            self.wait()
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
            self._write(LAST, content, state, keep_previous=self.keep_previous)
        self.keep_previous, self.saved = True, time.perf_counter()
        if self.seconds_between_losses is not None:  # only rank 0's counts, which wrote
            self.interval_seconds = best_interval(self.saved - began, self.seconds_between_losses)

    def save_best(self, state: State) -> None:
        """Save the weights of the best epoch so far, on which the trial's result is based."""
        if self.world.is_main:
            content = {"model": state.model.state_dict(), "method": state.method.state_dict(), "input": self.inputs}
            self._write(BEST, content, state)

    def _write(self, name: str, content: dict[str, Any], state: State, *, keep_previous: bool = False) -> None:
        method = state.method
        if not flat.launch_bound(state.loss_sum):
            checkpoint.save(self.storage, name, content, method, keep_previous=keep_previous)
            return
        checkpoint.check_outside_scope(method)
        self.wait(left=_WAITING - 1)
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        copied, ready = _copied(content), _ready(self.world.device)

        def write() -> None:
            ready()
            checkpoint.save(self.storage, name, copied, Method(), keep_previous=keep_previous)

        self._waiting.append(self._thread.submit(write))


def _copied(value: Any) -> Any:
    """Return a copy of a checkpoint's content, which training does not change."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        changed = copy.copy(value)  # a state_dict of a model has attributes
        changed.update((key, _copied(item)) for key, item in value.items())
        return changed
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _ready(device: torch.device) -> Callable[[], None]:
    """Return a function that waits until what was issued so far is done: a thread has another stream."""
    if device.type != "cuda":
        return lambda: None
    event = torch.cuda.current_stream(device).record_event()
    return event.synchronize


def load_last(storage: Storage, world: World) -> tuple[dict[str, Any] | None, list[str]]:
    """Call ``checkpoint.load_latest`` on all ranks. Raises RuntimeError where they do not share the folder."""
    world.broadcast(None)  # rank 0 may still be writing for an earlier call
    saved, refused = checkpoint.load_latest(storage, LAST, world.device)
    place = None if saved is None else [saved["epoch"], saved["step"]]
    if world.broadcast(place) != place:
        path = storage.where(LAST)
        raise RuntimeError(f"{path}: rank {world.rank} sees another checkpoint than rank 0; is it shared?")
    return saved, refused
