"""Reserve what a slot's workers occupy, and free what a lost slot has reserved."""

from __future__ import annotations

import contextlib
import threading
import uuid
from typing import Any

from ray import PlacementGroupID
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group


class PlacementGroups:
    """The placement groups that this process has created.

    They carry the name of its ``slot``, by which the driver releases what a process that was killed has left.
    """

    def __init__(self) -> None:
        self.slot = ""
        self._ids: list[str] = []
        self._lock, self._closed = threading.Lock(), False

    @property
    def newest(self) -> str | None:
        return self._ids[-1] if self._ids else None

    def create(self, bundles: list[dict[str, float]], **options: Any) -> PlacementGroup:
        """Create a group. Raises RuntimeError once closed."""
        with self._lock:
            if self._closed:
                raise RuntimeError("the slot has ended")
            group = placement_group(bundles, name=f"{self.slot}/{uuid.uuid4().hex}", **options)
            self._ids.append(group.id.hex())
            return group

    def close(self) -> None:
        """Release all, and create no more: a controller whose workers fail makes the next group at once."""
        with self._lock:
            self._closed = True
            for group in self._ids:
                release(group)


placement_groups = PlacementGroups()


def release(group: str) -> None:
    """Remove a placement group, by id, if it still exists.

    If a Train controller dies with its machine, its placement group remains, and Ray places it again where the next
    slot should start, since its owner, the driver, is alive.
    """
    with contextlib.suppress(Exception):  # already removed
        remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(group))))


def is_pending(group: str) -> bool:
    """Return whether a placement group, by id, waits for a machine that has room."""
    with contextlib.suppress(Exception):  # another version of Ray
        facts = placement_group_table(PlacementGroup(PlacementGroupID(bytes.fromhex(group))))
        return facts.get("state") in ("PENDING", "RESCHEDULING")
    return False


def release_all(slot: str) -> None:
    """Remove the placement groups that a slot has created, by name: one that was killed reports none."""
    with contextlib.suppress(Exception):  # the cluster is lost, or another version of Ray
        for group, facts in placement_group_table().items():
            if facts["name"].startswith(f"{slot}/") and facts["state"] != "REMOVED":
                release(group)
