"""Draw every figure that a run's tables allow, each to its own file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from st3sweep.analysis import tables
from st3sweep.runs.tables import table_path
from st3sweep.util.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "pdf", "svg")


def write_figures(run: Path, folder: Path, format_: str = "png", width: float = 7.0) -> list[Path]:
    """Write the figures of ``run`` to ``folder`` as ``<name>.<format_>``, ``width`` inches wide; return their paths.

    front, selection, ramp, training, timeline, layers, profiles, hypervolume, importance, interactions, slices: those
    for which the run has the tables. Raises UserError for another format or a width outside 2 to 40 inches.
    """
    if format_ not in FORMATS:
        raise UserError(f"--format {format_}: allowed: {', '.join(FORMATS)}")
    if not 2 <= width <= 40:
        raise UserError(f"--width {width:g}: allowed: 2 to 40 inches")
    from st3sweep.analysis.figures import save

    written = []
    for name, draw in figures_of(run, width).items():
        path = folder / f"{name}.{format_}"
        try:
            save(draw(), path)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror})") from None
        written.append(path)
    return written


def figures_of(run: Path, width: float) -> dict[str, Callable[[], Figure]]:
    """Return a function for each figure that the tables of ``run`` allow, by its name; nothing is drawn yet."""
    from st3sweep.analysis import importance_plots, plots, profile_plots, trial_plots
    from st3sweep.analysis.forests import fit_forests
    from st3sweep.analysis.fronts import front
    from st3sweep.analysis.hypervolume_curves import plot_hypervolume
    from st3sweep.analysis.importance import importance, interactions
    from st3sweep.analysis.layer_profiles import layer_profiles
    from st3sweep.analysis.selection import plot_selection
    from st3sweep.analysis.slices import slices
    from st3sweep.analysis.timeline import timeline
    from st3sweep.analysis.training_curves import training_curves
    from st3sweep.runs.ledger import LEDGER

    trials, objectives = tables.load_trials(run), tables.objectives_of(run)
    found: dict[str, Callable[[], Figure]] = {
        "front": lambda: plots.plot_run(trials, objectives, width),
        "selection": lambda: plot_selection(trials, objectives=objectives, width=width),
    }
    if table_path(run, "epochs").is_file():
        epochs = tables.load_epochs(run)
        found |= {
            "ramp": lambda: trial_plots.plot_ramp(epochs, trials, width),
            "training": lambda: profile_plots.plot_training_curves(training_curves(epochs, trials), width=width),
            "timeline": lambda: profile_plots.plot_timeline(timeline(run, objectives=objectives), width),
        }
    if table_path(run, "layers").is_file():
        layers = tables.load_layers(run)
        found["layers"] = lambda: trial_plots.plot_layers(layers, front(trials, objectives), width)
        if trials["model"].nunique() == 1:
            found["profiles"] = lambda: profile_plots.plot_layer_profiles(
                layer_profiles(layers, trials, objectives), width
            )
    if (run / LEDGER).is_file() and trials["gflops_dense"].nunique() == 1:
        found["hypervolume"] = lambda: plot_hypervolume(run, width=width)
    fits = fit_forests(trials, objectives)
    found["importance"] = lambda: importance_plots.plot_importance(importance(fits), width)
    found["interactions"] = lambda: importance_plots.plot_interactions(interactions(fits), width)
    found["slices"] = lambda: importance_plots.plot_slices(slices(fits), width)
    return found
