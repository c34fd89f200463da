"""Import every module of a package whose modules register what they define."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable


def import_submodules(package: str, path: Iterable[str]) -> None:
    """Import the modules directly in ``package``, whose ``__path__`` is ``path``, in the order of their names."""
    for info in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{info.name}")
