"""The machines of a sweep: Ray on this one or on a cluster, and how many slots fit."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray import PlacementGroupID
from ray.util.placement_group import PlacementGroup, remove_placement_group

from st3sweep.space.resources import Resources, count_slots
from st3sweep.util.errors import UserError


@contextmanager
def cluster(address: str | None, resources: Resources, *, verbose: bool = False) -> Iterator[int]:
    """Connect to ``address``, or start Ray here; yields how many slots fit (see ``count_slots``)."""
    quiet: dict[str, Any] = {} if verbose else {"logging_level": "ERROR", "log_to_driver": False}
    if address is None:
        # Workers beyond the cores are allowed here, where a person tries things: they share them. One CPU more than
        # that, since Tune's own actors ask for a hundredth each.
        cpus = max(os.cpu_count() or 1, resources.workers * resources.cpus_per_worker)
        ray.init(address="local", num_cpus=cpus + 1, include_dashboard=False, **quiet)
        available = {**ray.cluster_resources(), "CPU": float(cpus)}
    else:
        try:
            ray.init(address=address, **quiet)
        except ConnectionError as error:
            raise UserError(f"--address {address}: no Ray cluster there ({str(error).splitlines()[0]})") from None
        available = ray.cluster_resources()
    try:
        yield count_slots(available, resources, grows=address is not None)
    finally:
        ray.shutdown()


def release(group: str) -> None:
    """Remove a placement group, by id, if it is still there.

    Train leaves that of a run whose controller died with its machine, and Ray places it anew where the next slot should
    go: it belongs to this program, which lives.
    """
    with contextlib.suppress(Exception):  # it is gone already
        remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(group))))
