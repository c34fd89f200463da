"""Decide whether a run has spent its budget, and whether any of its work remains."""

from __future__ import annotations

import math
from collections.abc import Mapping

from st3sweep.runs.ledger import Ledger
from st3sweep.space.space import Space
from st3sweep.sweep.replicates import next_replicate


def limit_hit(space: Space, spent: Mapping[str, float], *, for_search: bool = False) -> str | None:
    """Return the limit of the budget that is spent, if any; ``for_search`` leaves out the replicates' share."""
    replicates = space.config.replicates
    share = replicates.share_kept if replicates and for_search else 0.0
    limits = space.config.budget.limits()
    return next((name for name, limit in limits.items() if spent[name] >= (1 - share) * limit), None)


def is_complete(space: Space, ledger: Ledger, total: float, spent: Mapping[str, float]) -> bool:
    """Return whether every trial of the search, ``total`` of them, and every replicate has ended.

    A search without a number of trials (``total`` is infinite) ends with its budget; any search ends with its space.
    """
    searched = sum(not trial.is_replicate for trial in ledger.trials.values())
    over = limit_hit(space, spent, for_search=True) is not None if math.isinf(total) else searched >= total
    return (over or ledger.exhausted) and _only_search_left(space, ledger)


def blocking_limit(space: Space, ledger: Ledger, spent: Mapping[str, float]) -> str | None:
    """Return the spent limit that keeps a run from continuing: the search's part of it, if only search remains."""
    only_search = _only_search_left(space, ledger)
    return limit_hit(space, spent) or (limit_hit(space, spent, for_search=True) if only_search else None)


def _only_search_left(space: Space, ledger: Ledger) -> bool:
    """Return whether every trial that was chosen, and every replicate that its front asks for, has ended."""
    if ledger.unfinished():
        return False
    return space.config.replicates is None or next_replicate(ledger, space.config.replicates) is None
