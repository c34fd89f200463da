"""Plugins: modules outside the package that register models, datasets or methods when they are imported."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from st3sweep.util.errors import UserError


def load_plugins(names: Sequence[str]) -> None:
    """Import the modules ``names``, which may lie in the working directory.

    Only the person who runs names a plugin (``--plugin``); a search space never does. Raises UserError for a module
    that cannot be imported.
    """
    here = str(Path.cwd())
    if names and here not in sys.path:
        sys.path.append(here)  # last: nothing there may take the place of an installed package
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # a plugin may raise anything
            reason = " ".join(str(error).split())
            raise UserError(f"--plugin {name}: cannot be imported ({type(error).__name__}: {reason})") from error
