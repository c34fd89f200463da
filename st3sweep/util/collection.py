"""Pause Python's search for unreachable cycles while many objects are made that stay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused_collection() -> Iterator[None]:
    """Within the block, or within the function that this decorates, free only what is no longer referred to.

    Reading a run of 20,000 trials makes a million objects, and the search would go over all of them again and again:
    a third to a half of the time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
