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
import os
from typing import Any

import ray
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.torch.config import _TorchBackend
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.controller.controller import TrainController
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2._internal.execution.worker_group.placement_group_handle import DefaultPlacementGroupHandle
from ray.train.v2._internal.execution.worker_group.worker_group import WorkerGroup

from st3sweep.execution import mps
from st3sweep.execution.placement_groups import placement_groups


class _FixedSize(FixedScalingPolicy):
    """Asks for the number of workers in the configuration, without registering them with an actor."""

    def after_controller_start(self, train_run_context: Any) -> None:
        """Do nothing: there is no actor to tell."""

    def _maybe_send_resource_request(self) -> None:
        """Do nothing."""


class _Group(WorkerGroup):
    """Notes its placement group at once: workers that never start cannot name it, and it would never be removed."""

    def _create_placement_group(self, _: Any, context: Any) -> DefaultPlacementGroupHandle:
        group = placement_groups.create(
            [context.resources_per_worker] * context.num_workers,
            strategy=context.placement_strategy,
            bundle_label_selector=context.label_selector,
        )
        return DefaultPlacementGroupHandle(group)


class _Controller(TrainController):
    worker_group_cls = _Group


class _Backend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        worker_group.execute(name_network)
        # A trial that took its worker down continues beside MPS, where a fault of the GPU ends no other trial.
        if backend_config.mailbox is not None and ray.get(backend_config.mailbox.attempts.remote()):
            worker_group.execute(mps.leave)
        super().on_start(worker_group, backend_config)


class SlotConfig(TorchConfig):
    """Has gloo use the network by which Ray's machines reach each other.

    It would use that of the host's name, which on Debian and Ubuntu is loopback, where no other machine answers.
    ``mailbox``: the slot's, if its trials share a GPU.
    """

    def __init__(self, mailbox: Any = None):
        super().__init__()
        self.mailbox = mailbox

    @property
    def backend_cls(self) -> Any:
        return _Backend


def name_network() -> None:
    """Set GLOO_SOCKET_IFNAME, unless it is set, to the interface that has this machine's address in the cluster."""
    import psutil

    address = ray.util.get_node_ip_address()
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address == address for one in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


class SlotTrainer(TorchTrainer):
    """A TorchTrainer whose controller runs in the process that calls ``fit``, which must be an actor."""

    def _create_default_callbacks(self) -> list[Any]:
        unused = (DatasetsCallback, PlacementGroupCleanerCallback)
        return [callback for callback in super()._create_default_callbacks() if not isinstance(callback, unused)]

    def _initialize_and_run_controller(self, **arguments: Any) -> Any:
        controller = _Controller(**arguments | {"scaling_policy": _FixedSize(self.scaling_config)})
        asyncio.run(controller.run())
        return controller.get_result()
