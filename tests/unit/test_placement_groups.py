"""What a slot reserves for its workers."""

from __future__ import annotations

import time

import pytest

from st3sweep.execution import slot
from st3sweep.execution.cluster import cluster
from st3sweep.execution.placement_groups import PlacementGroups, is_pending, release
from st3sweep.space.resources import Resources


def test_a_slot_that_has_failed_reserves_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = PlacementGroups()
    monkeypatch.setattr(slot, "placement_groups", groups)
    lost = slot.Slot.__new__(slot.Slot)  # without a mailbox, as if its setup had been cut off
    with pytest.raises(AttributeError):
        lost.step()
    with pytest.raises(RuntimeError, match="the slot has ended"):
        groups.create([{"CPU": 1}])


@pytest.mark.slow
def test_a_group_waits_where_no_machine_has_room() -> None:
    """On real Ray, which gives the states their names."""
    groups = PlacementGroups()
    with cluster(None, Resources(slots=1)):
        placed, waits = groups.create([{"CPU": 1}]), groups.create([{"CPU": 10_000}])
        assert placed.wait(30)
        assert not waits.wait(1)
        assert [is_pending(group.id.hex()) for group in (placed, waits)] == [False, True]
        release(waits.id.hex())
        time.sleep(1)
        assert not is_pending(waits.id.hex())
