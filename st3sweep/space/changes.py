"""Compare a run's stored space with the one it is resumed with: only what may be spent can change."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from st3sweep.space.config import OLD_KEYS
from st3sweep.util.errors import UserError, shown

# With --extend: they decide only how much is run, where, and what is measured of it
MAY_CHANGE = ("budget", "replicates", "resources", "measure")


def differences(old: Any, new: Any, above: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (dotted path, value before, value now) of every field that differs; None stands for an absent one."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            yield from differences(old.get(key), new.get(key), f"{above}.{key}" if above else str(key))
    elif old != new:
        yield above, old, new


def check_unchanged(old: Mapping[str, Any], new: Mapping[str, Any], *, extend: bool) -> None:
    """Raise UserError, listing the differences, if ``new`` is not the space that the run started with.

    With ``extend``, MAY_CHANGE may differ.
    """
    plain = json.loads(json.dumps(new))  # as the ledger stores it
    found = list(differences({OLD_KEYS.get(key, key): value for key, value in old.items()}, plain))
    refused = [one for one in found if not (extend and one[0].split(".")[0] in MAY_CHANGE)]
    if not refused:
        return
    lines = [f"{path}: {shown(before)} → {shown(now)}" for path, before, now in refused]
    if all(path.split(".")[0] in MAY_CHANGE for path, _, _ in refused):
        hint = "to resume with these, add --extend"
    else:
        hint = f"a run resumes with the space that it started with; --extend lets only {', '.join(MAY_CHANGE)} change"
    raise UserError("\n".join(["the space has changed since the run started:", *(f"  {one}" for one in lines), hint]))
