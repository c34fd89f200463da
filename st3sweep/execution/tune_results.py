"""Have Tune forget the results of slots that it has passed on.

Tune keeps a reference to each result until its trial ends, and Ray keeps what is referred to. But a slot is one trial
for the whole sweep, and its results hold the epochs of all trials: about 18 kB for 30 epochs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def forgotten_results() -> Iterator[None]:
    """Have Tune keep references only to results to come, within the block.

    What is changed is internal to Ray (2.60): where it is not found, Tune keeps all.
    """
    try:
        from ray.tune.execution import tune_controller

        manager = tune_controller.RayActorManager
    except (ImportError, AttributeError):
        yield
        return
    tune_controller.RayActorManager = _forgetful(manager)
    try:
        yield
    finally:
        tune_controller.RayActorManager = manager


def _forgetful(manager: Any) -> Any:
    """Return a subclass of Ray's manager of actors that drops, before a call, references to answers that it has had."""

    class Forgetful(manager):  # type: ignore[misc]
        def _schedule_tracked_actor_task(self, tracked_actor_task: Any, **options: Any) -> Any:
            with contextlib.suppress(AttributeError):
                held = self._tracked_actors_to_task_futures[tracked_actor_task._tracked_actor]
                held &= self._actor_task_events.get_futures()
            return super()._schedule_tracked_actor_task(tracked_actor_task=tracked_actor_task, **options)

    return Forgetful
