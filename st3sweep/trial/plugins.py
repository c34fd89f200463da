"""Load plugins: modules outside the package that register models, datasets or methods on import."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from st3sweep.util.errors import UserError


def load_plugins(names: Sequence[str]) -> None:
    """Import the modules ``names``, which may be in the working directory.

    Plugins are named on the command line only (``--plugin``), never in a search space. Raises UserError for a module
    that cannot be imported.
    """
    here = str(Path.cwd())
    if names and here not in sys.path:
        sys.path.append(here)  # last, so that it never shadows an installed package
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # a plugin may raise anything
            reason = " ".join(str(error).split())
            raise UserError(f"--plugin {name}: cannot be imported ({type(error).__name__}: {reason})") from error
