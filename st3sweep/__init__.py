"""st3sweep: find the best accuracy at every GFLOP budget of a convolutional network.

The Python API. Importing it is light: each name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from st3sweep.util.version import __version__

if TYPE_CHECKING:
    from st3sweep.commands.api import (
        cost,
        doctor,
        front,
        load_run,
        models,
        pack,
        plan,
        report,
        run,
        schema,
        train,
        validate,
    )
    from st3sweep.commands.opened_run import Run
    from st3sweep.data.own import register_dataset
    from st3sweep.networks.flops import gflops, layer_costs
    from st3sweep.sparse.method import Method, harden, prunable, sparse_weights
    from st3sweep.sparse.methods.st3 import ST3
    from st3sweep.training.optim import optimisation_step
    from st3sweep.trial.metric import Metric
    from st3sweep.trial.model import register_model
    from st3sweep.trial.sparsity import register_method
    from st3sweep.util.errors import SpecError, UserError

__all__ = [
    "ST3",
    "Method",
    "Metric",
    "Run",
    "SpecError",
    "UserError",
    "__version__",
    "cost",
    "doctor",
    "front",
    "gflops",
    "harden",
    "layer_costs",
    "load_run",
    "models",
    "optimisation_step",
    "pack",
    "plan",
    "prunable",
    "register_dataset",
    "register_method",
    "register_model",
    "report",
    "run",
    "schema",
    "sparse_weights",
    "train",
    "validate",
]

_HOME = {
    "st3sweep.commands.api": (
        "cost",
        "doctor",
        "front",
        "load_run",
        "models",
        "pack",
        "plan",
        "report",
        "run",
        "schema",
        "train",
        "validate",
    ),
    "st3sweep.commands.opened_run": ("Run",),
    "st3sweep.data.own": ("register_dataset",),
    "st3sweep.networks.flops": ("gflops", "layer_costs"),
    "st3sweep.sparse.method": ("Method", "harden", "prunable", "sparse_weights"),
    "st3sweep.sparse.methods.st3": ("ST3",),
    "st3sweep.training.optim": ("optimisation_step",),
    "st3sweep.trial.metric": ("Metric",),
    "st3sweep.trial.model": ("register_model",),
    "st3sweep.trial.sparsity": ("register_method",),
    "st3sweep.util.errors": ("SpecError", "UserError"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
