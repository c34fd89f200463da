"""Register the models, datasets and methods of the package and of plugins."""

from __future__ import annotations

from collections.abc import Sequence

from st3sweep.trial.plugins import load_plugins


def register_components(plugins: Sequence[str] = ()) -> None:
    """Register all models, datasets and methods; ``plugins`` are names of modules that register more. Imports torch.

    Call it before a space or a trial is read; reading a finished run does not need it. Raises UserError for a plugin
    that cannot be imported.
    """
    import st3sweep.data.formats
    import st3sweep.networks
    import st3sweep.sparse.methods  # noqa: F401 (importing them is what registers)

    load_plugins(plugins)
