"""A TorchTrainer for a slot: it starts the workers and little else.

Ray Train runs the controller of its workers in an actor of its own, and starts three more actors beside it: for
datasets, for the autoscaler and for placement groups that are left behind. Here each of them is a process that imports
Ray, pandas and half of Ray Data, one after the other. A slot needs none: it is an actor that may run the controller
itself, it passes no Ray datasets, a pending placement group makes the autoscaler add machines, and the driver releases
the group of a slot that it loses. This saves a third of the CPU-seconds of a start.

What is overridden here is internal to Ray Train (2.60). A slot that cannot import it uses the plain TorchTrainer, which
does the same more slowly.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.controller.controller import TrainController
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2._internal.execution.worker_group.worker_group import WorkerGroup

placement_groups: list[str] = []  # ids of those that this process has created, the last one last


class _FixedSize(FixedScalingPolicy):
    """Asks for the number of workers in the configuration, without registering them with an actor."""

    def after_controller_start(self, train_run_context: Any) -> None:
        """Do nothing: there is no actor to tell."""

    def _maybe_send_resource_request(self) -> None:
        """Do nothing."""


class _Group(WorkerGroup):
    """Notes its placement group at once: workers that never start cannot tell of it, and it would stay for ever."""

    def _create_placement_group(self, *arguments: Any) -> Any:
        handle = super()._create_placement_group(*arguments)
        placement_groups.append(handle.placement_group.id.hex())
        return handle


class _Controller(TrainController):
    worker_group_cls = _Group


class SlotTrainer(TorchTrainer):
    """A TorchTrainer whose controller runs in the process that calls ``fit``, which must be an actor."""

    def _create_default_callbacks(self) -> list[Any]:
        unused = (DatasetsCallback, PlacementGroupCleanerCallback)
        return [callback for callback in super()._create_default_callbacks() if not isinstance(callback, unused)]

    def _initialize_and_run_controller(self, **arguments: Any) -> Any:
        controller = _Controller(**arguments | {"scaling_policy": _FixedSize(self.scaling_config)})
        asyncio.run(controller.run())
        return controller.get_result()
