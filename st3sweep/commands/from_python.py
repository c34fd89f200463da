"""Convert overrides to text and discard unwanted output, for the functions of the Python API."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

from st3sweep.util.errors import UserError

if TYPE_CHECKING:
    from st3sweep.space.overrides import Overrides


def texts(values: Mapping[str, Any] | None, argument: str = "overrides") -> Overrides:
    """Return the values of ``argument`` as YAML text; errors name it. Raises UserError for a value outside JSON."""
    from st3sweep.space.overrides import Overrides

    try:
        given = {path: value if isinstance(value, str) else json.dumps(value) for path, value in (values or {}).items()}
    except TypeError as error:
        raise UserError(f"{argument}: {error}") from None
    return Overrides(given, argument)


@contextmanager
def shown(progress: bool) -> Iterator[None]:
    """Discard what a sweep without ``progress`` prints."""
    if progress:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield
