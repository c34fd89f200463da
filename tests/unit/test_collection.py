"""Test that the search for cycles is paused where it is meant to be, and nowhere else."""

from __future__ import annotations

import gc

import pytest

from st3sweep.util.collection import paused_collection


def test_it_is_off_within_and_as_before_afterwards() -> None:
    seen = []

    @paused_collection()
    def read() -> None:
        with paused_collection():
            seen.append(gc.isenabled())
        seen.append(gc.isenabled())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        read()
    assert [*seen, gc.isenabled()] == [False, False, True]
