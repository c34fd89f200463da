"""Import packages that only some commands need, and that an optional extra installs."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from st3sweep.util.errors import UserError


def optional(package: str, extra: str, needed_for: str) -> Any:
    """Return the module ``package``. Raises UserError, saying what installs it, where it is absent."""
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:  # the package is there, and lacks something itself
            raise
        message = f"{needed_for} needs the package {package}; install it with: pip install 'st3sweep[{extra}]'"
        raise UserError(message) from None
