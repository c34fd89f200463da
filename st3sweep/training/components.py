"""Register the models, datasets and methods of the package and of plugins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from st3sweep.trial.from_function import register_function
from st3sweep.trial.model import MODEL_FORM
from st3sweep.trial.plugins import KINDS, load_installed_plugins, load_plugins
from st3sweep.trial.sparsity import METHOD_FORM


def register_components(plugins: Sequence[str] = ()) -> None:
    """Register all models, datasets and methods; ``plugins`` are names of modules that register more. Imports torch.

    Those of installed packages (entry points ``st3sweep.plugins``) are registered too. Call it before a space or a
    trial is read; reading a finished run does not need it. Raises UserError for a plugin that cannot be imported.
    """
    import st3sweep.data.formats
    import st3sweep.networks
    import st3sweep.sparse.methods  # noqa: F401 (importing them is what registers)

    load_installed_plugins()
    load_plugins(plugins)


# Kind, name, function, its types, the class attributes attached to it, the hash of all their code.
Component = tuple[str, str, Callable[..., Any], dict[str, Any], dict[str, Any], str]


def components_from_functions() -> list[Component]:
    """Return what was registered from functions, for ``register_from_functions`` in another process."""
    return [
        (kind.key, name, config.function, config.hints, config.attachments(), config.code)
        for kind in KINDS
        for name, config in kind.registered.items()
        if config.function is not None
    ]


def register_from_functions(components: Sequence[Component]) -> None:
    """Register ``components``, with the hashes of their code as they were where they come from."""
    from st3sweep.data.own import DATASET_FORM

    forms = {"arch": MODEL_FORM, "dataset": DATASET_FORM, "method": METHOD_FORM}
    kinds = {kind.key: kind for kind in KINDS}
    for key, name, function, hints, attached, code in components:
        register_function(kinds[key], forms[key], name, function, hints, attached).code = code
