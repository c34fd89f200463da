"""The cluster that the tests of this folder share: hosts, Ray started on them, and a reference run."""

from __future__ import annotations

import pytest
from hosts import missing


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip these tests, with the reason, where no hosts can be made."""
    ours = [item for item in items if item.path.parent.name == "cluster"]
    reason = missing() if ours else None
    for item in ours:
        item.add_marker(pytest.mark.cluster)
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))
