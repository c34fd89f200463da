"""Load plugins: modules outside the package that register models, datasets or methods on import."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from st3sweep.trial.data import DataConfig
from st3sweep.trial.model import ModelConfig
from st3sweep.trial.registry import Registered
from st3sweep.trial.sparsity import MethodConfig
from st3sweep.util.errors import UserError

GROUP = "st3sweep.plugins"  # of entry points
KINDS: tuple[type[Registered], ...] = (ModelConfig, DataConfig, MethodConfig)


def load_plugins(names: Sequence[str]) -> None:
    """Import the modules ``names``, which may be in the working directory.

    Plugins are named on the command line only (``--plugin``), never in a search space. Raises UserError for a module
    that cannot be imported.
    """
    here = str(Path.cwd())
    if names and here not in sys.path:
        sys.path.append(here)  # last, so that it never shadows an installed package
    for name in names:
        _import(name, f"--plugin {name}")


@cache
def load_installed_plugins() -> None:
    """Import the modules that installed packages name as entry points of ``st3sweep.plugins``, once a process.

    Raises UserError for one that cannot be imported.
    """
    for point in metadata.entry_points(group=GROUP):
        _import(point.module, f"the plugin {point.name} of the installed package {point.dist and point.dist.name}")


def _import(module: str, shown: str) -> None:
    try:
        importlib.import_module(module)
    except Exception as error:  # a plugin may raise anything
        reason = " ".join(str(error).split())
        raise UserError(f"{shown}: cannot be imported ({type(error).__name__}: {reason})") from error


def foreign_components(space: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the registered components from outside the package that ``space``, plain data, names.

    By key and name (``arch mine``): their module, the version of its package, and the hash of their code.
    """
    words = set(_words(space))
    return {
        f"{kind.key} {name}": {"module": config.__module__, "version": _version(config.__module__), "code": config.code}
        for kind in KINDS
        for name, config in kind.registered.items()
        if config.code and name in words
    }


def check_foreign_components(
    where: Path, expected: Mapping[str, Mapping[str, Any]], *, plugins: Sequence[str], allow_changed: bool
) -> None:
    """Raise UserError unless the components that a run started with are registered, with the same code.

    ``plugins`` are the modules that the run was started with; ``allow_changed`` allows other code.
    """
    for component, facts in expected.items():
        key, _, name = component.partition(" ")
        [kind] = (kind for kind in KINDS if kind.key == key)
        config = kind.registered.get(name)
        if config is None:
            module = facts["module"]
            remedy = f"name it with --plugin {module}" if module in plugins else f"install the plugin {module}"
            if module == "__main__":
                remedy = "register it again"
            raise UserError(f"{where}: uses the {key} {name}, which is not registered here; {remedy}")
        if config.code != facts["code"] and not allow_changed:
            message = f"the code of the {key} {name} has changed since the run started (in {config.__module__})"
            raise UserError(f"{where}: {message}; to use it nevertheless, add --allow-changed-plugins")


def _words(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping):
        for below in node.values():
            yield from _words(below)
    elif isinstance(node, list | tuple):
        for below in node:
            yield from _words(below)


def _version(module: str) -> str | None:
    try:
        return metadata.version(module.partition(".")[0])
    except metadata.PackageNotFoundError:
        return None
