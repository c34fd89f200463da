"""Everything a trial can be made of: the package's own models, datasets and methods, and those of plugins."""

from __future__ import annotations

from collections.abc import Sequence

from st3sweep.trial.plugins import load_plugins


def register_components(plugins: Sequence[str] = ()) -> None:
    """Register them all; ``plugins`` are names of modules that register more. Imports torch.

    Call it before a space or a trial is read. A finished run is read without it. Raises UserError for a plugin that
    cannot be imported.
    """
    import st3sweep.data.formats
    import st3sweep.networks
    import st3sweep.sparse.methods  # noqa: F401 (importing them is what registers)

    load_plugins(plugins)
