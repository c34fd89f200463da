"""Test that Tune forgets a slot's results: else a sweep's driver would keep the epochs of all trials."""

from __future__ import annotations

from types import SimpleNamespace

import ray
from ray.air.execution._internal.tracked_actor import TrackedActor
from ray.tune.execution import tune_controller

from st3sweep.execution.tune_results import forgotten_results


def test_only_results_to_come_are_referred_to() -> None:
    before = tune_controller.RayActorManager
    with forgotten_results():
        manager = tune_controller.RayActorManager(SimpleNamespace())  # Ray's managers connect to a cluster
    assert tune_controller.RayActorManager is before
    calls = (ray.ObjectRef(bytes([number]) * 28) for number in range(1, 10))
    slot, other = (TrackedActor(number) for number in (0, 1))
    actor = SimpleNamespace(train=SimpleNamespace(remote=lambda: next(calls)))
    manager._live_actors_to_ray_actors_resources |= {slot: (actor, None), other: (actor, None)}
    manager.schedule_actor_task(other, "train")  # runs all the time
    for _ in range(3):
        manager.schedule_actor_task(slot, "train")
        [coming] = manager._tracked_actors_to_task_futures[slot]
        manager._actor_task_events.discard_future(coming)  # as when the answer has come
    assert len(manager._tracked_actors_to_task_futures[other]) == 1
    assert manager._actor_task_events.get_futures() == manager._tracked_actors_to_task_futures[other]
