"""What a slot reserves for its workers."""

from __future__ import annotations

import pytest

from st3sweep.execution import slot
from st3sweep.execution.placement_groups import PlacementGroups


def test_a_slot_that_has_failed_reserves_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = PlacementGroups()
    monkeypatch.setattr(slot, "placement_groups", groups)
    lost = slot.Slot.__new__(slot.Slot)  # without a mailbox, as if its setup had been cut off
    with pytest.raises(AttributeError):
        lost.step()
    with pytest.raises(RuntimeError, match="the slot has ended"):
        groups.create([{"CPU": 1}])
