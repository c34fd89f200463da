"""Open a run from Python: ``Run`` has its tables and its front, and resumes, measures or exports it.

Nothing here needs torch or Ray before it trains, exports or loads a model.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from st3sweep.commands.from_python import shown, texts
from st3sweep.runs.bring import local_run
from st3sweep.runs.folder import existing_run
from st3sweep.util.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import nn

    from st3sweep.early_stopping.replay import Replay, Unit


class Run:
    """A run in a folder: what it has found, and what can be done with it. Reads the files anew at every access.

    Of a run in an object store these are the files in its local folder, which are brought up to date on opening.
    """

    def __init__(self, folder: Path | str):
        self.folder = existing_run(local_run(folder))

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @property
    def trials(self) -> pd.DataFrame:
        """A row a trial: settings, sparsity (a fraction), ``val_top1`` and ``test_top1`` (percent), gflops, seconds."""
        from st3sweep.analysis.tables import load_trials

        return load_trials(self.folder)

    @property
    def epochs(self) -> pd.DataFrame:
        """A row an epoch of a trial."""
        from st3sweep.analysis.tables import load_epochs

        return load_epochs(self.folder)

    @property
    def layers(self) -> pd.DataFrame:
        """A row a layer of a finished trial, at its best epoch."""
        from st3sweep.analysis.tables import load_layers

        return load_layers(self.folder)

    def status(self) -> dict[str, Any]:
        """Return the run's state as plain data, as ``st3sweep status --json`` prints it."""
        from st3sweep.sweep.status import read_status

        return read_status(self.folder).as_dict()

    @property
    def state(self) -> str:
        """``running``, ``complete``, ``budget`` (it is spent) or ``interrupted``."""
        from st3sweep.sweep.status import read_status

        return read_status(self.folder).state

    def front(self, x: str | None = None) -> pd.DataFrame:
        """Return the rows of ``trials`` on the Pareto front of validation accuracy over a cost, cheapest first.

        ``x`` is gflops, latency or size; by default what was searched beside accuracy, else gflops. Where an own metric
        of the model was searched beside gflops, it takes the place of accuracy. Raises UserError where no trial has
        ``x``.
        """
        from st3sweep.analysis.fronts import front
        from st3sweep.analysis.tables import objectives_over

        trials = self.trials
        return front(trials, objectives_over(trials, self.folder, x=x))

    def pick(
        self, max_gflops: float | None = None, min_accuracy: float | None = None, max_latency: float | None = None
    ) -> pd.Series[Any]:
        """Return one trial of the front, as its row.

        With ``max_gflops`` or ``max_latency`` (ms) the most accurate that costs no more; with ``min_accuracy``
        (validation, percent) the cheapest that is no less accurate; with none the most accurate. Raises UserError where
        none qualifies.
        """
        from st3sweep.analysis.fronts import pick
        from st3sweep.commands.results import objectives_of_limits

        trials = self.trials
        objectives = objectives_of_limits(trials, self.folder, max_gflops, max_latency)
        chosen = pick(trials, max_gflops, min_accuracy, objectives, max_latency)
        if chosen.empty:
            none = "meets the limits" if (trials["status"] == "finished").any() else "has finished"
            raise UserError(f"{self.folder}: no trial {none}")
        return chosen.iloc[0]

    def plot(self, x: str | None = None) -> Figure:
        """Return the plot of the ``front``, a matplotlib Figure, beside published points where there are any."""
        from st3sweep.analysis.plots import plot_run
        from st3sweep.analysis.tables import objectives_over

        trials = self.trials
        return plot_run(trials, objectives_over(trials, self.folder, x=x))

    def report(self, path: Path | str | None = None) -> Path:
        """Write the interactive report, one HTML file, and return its path; by default report.html in the folder."""
        from st3sweep.commands.report import write_report

        return write_report([self.folder], None if path is None else Path(path))

    def _repr_html_(self) -> str:
        """Return the front and its table, for Jupyter; the text of ``repr`` where there is no table of trials yet."""
        from st3sweep.analysis.report.notebook import run_html
        from st3sweep.analysis.tables import objectives_of
        from st3sweep.util.errors import ResultsError

        try:
            return run_html(self.folder.name, self.trials, objectives_of(self.folder))
        except ResultsError as error:
            return f"<p>{html.escape(f'{self!r}: {error}')}</p>"

    def selection_bias(self, validation_images: int | None = None) -> pd.DataFrame:
        """Return the front with the columns ``deviation``, ``bias`` and ``noise`` of ``selection.selection_bias``.

        ``bias`` is by how much ``val_top1`` is expected to be too high, in points, because the front selected it.
        """
        from st3sweep.analysis.selection import selection_bias
        from st3sweep.analysis.tables import objectives_of

        return selection_bias(self.trials, validation_images, objectives=objectives_of(self.folder))

    def plot_selection(self, validation_images: int | None = None) -> Figure:
        """Return the plot of test over validation accuracy, the front ringed, with the bias of its selection."""
        from st3sweep.analysis.selection import plot_selection
        from st3sweep.analysis.tables import objectives_of

        return plot_selection(self.trials, validation_images, objectives_of(self.folder))

    def figures(self, folder: Path | str | None = None, format: str = "png", width: float = 7.0) -> list[Path]:
        """Draw every figure that the run's tables allow to ``folder``, by default ``figures`` in the run's own.

        ``format`` is png, pdf or svg; ``width`` in inches, of a page (7) or a column (3.3). Returns the files' paths.
        """
        from st3sweep.commands.figures import write_figures

        return write_figures(self.folder, self.folder / "figures" if folder is None else Path(folder), format, width)

    def compare(self, other: Run | Path | str | None = None, more: Path | str | None = None) -> pd.DataFrame:
        """Compare the front with that of another run, or with published points of its model and dataset.

        Returns a row for each point of the other: the difference of test accuracies in points with its 95 % interval
        where there are seeds, the costs and the ``verdict`` (``analysis.dominance``). ``more`` is a CSV file of further
        published points. Raises UserError where there is nothing to compare with.
        """
        from st3sweep.analysis.dominance import dominance
        from st3sweep.analysis.tables import objectives_of
        from st3sweep.commands.against import objectives_against, points_against

        trials = self.trials
        against = str(other.folder) if isinstance(other, Run) else "published" if other is None else str(other)
        others = points_against(trials, against, more)
        return dominance(trials, others, objectives=objectives_against(objectives_of(self.folder), others))

    def replay(
        self,
        *rules: str,
        reduction_factor: float = 2.0,
        slots: int = 4,
        orders: int = 200,
        overshoot: int = 1,
        unit: Unit = "seconds",
        seed: int = 0,
    ) -> list[Replay]:
        """Estimate what early stopping by each of ``rules`` would have saved and lost in this completed run.

        By default all rules that stop trials: ramp_pareto, residual, asha. ``overshoot`` are epochs that a trial trains
        after the decision to stop it; an epoch costs its recorded seconds, or with ``unit="epochs"`` 1.
        """
        from st3sweep.commands.replay import replays

        return replays(
            self.folder, rules, reduction_factor, slots=slots, orders=orders, overshoot=overshoot, unit=unit, seed=seed
        )

    def resume(
        self,
        *,
        trials: int | str | None = None,
        overrides: Mapping[str, Any] | None = None,
        extend: bool = False,
        promote: Sequence[int] = (),
        address: str | None = None,
        track: Sequence[str] = (),
        plugins: Sequence[str] = (),
        allow_changed_plugins: bool = False,
        progress: bool = True,
    ) -> Run:
        """Run what remains: keep finished trials, continue the others from their checkpoints; returns the run.

        ``trials`` extends the search to that many trials, or with a sign by as many: ``trials="+50"``. ``extend`` lets
        ``overrides`` change budget, replicates, measure and resources; ``promote`` are early-stopped trials to train to
        the end. Raises SpecError and UserError before any work.
        """
        from st3sweep.commands.resume import resume

        with shown(progress):
            resume(
                self.folder, texts(overrides), trials=None if trials is None else str(trials), extend=extend,
                promote=promote, address=address, track=track, plugins=plugins,
                allow_changed_plugins=allow_changed_plugins, as_json=not progress, verbose=False,
            )  # fmt: skip
        return self

    def stop(self, *, drain: bool = False) -> None:
        """Ask the program that runs the sweep to stop after the current epochs; with ``drain`` after current trials.

        Raises UserError where no program does.
        """
        from st3sweep.runs.bring import ask_to_stop

        ask_to_stop(local_run(self.folder), "drain" if drain else "now")  # anew: who runs it may have changed

    def clean(self, keep: str = "finished", *, yes: bool = False) -> pd.DataFrame:
        """Return the checkpoints that ``keep`` (``finished`` or ``front``) leaves out, a row a file; remove if ``yes``.

        Columns: ``trial``, ``file`` (its path, or its address in an object store), ``bytes``, ``why``. What stays is
        that of the setting ``resources.checkpoints``. Raises UserError while a program runs the sweep.
        """
        import pandas as pd

        from st3sweep.commands.clean import clean

        found = clean(self.folder, keep, yes=yes)
        return pd.DataFrame([vars(file) for file in found.files], columns=["trial", "file", "bytes", "why"])

    def measure(self, trials: Sequence[int] = (), *, again: bool = False, plugins: Sequence[str] = ()) -> pd.DataFrame:
        """Measure latency and file size of finished trials on this machine, into the run's tables; a row a trial.

        By default all that were not measured; ``again`` measures also the others. Raises UserError while a program runs
        the sweep.
        """
        import pandas as pd

        from st3sweep.commands.measure import COLUMNS, measure

        return pd.DataFrame(measure(self.folder, trials, again=again, plugins=plugins), columns=list(COLUMNS))

    def load_model(self, trial: int, plugins: Sequence[str] = (), *, allow_changed_plugins: bool = False) -> nn.Module:
        """Return a finished trial's model at its best epoch, zeros in place: a plain module in evaluation mode.

        It takes images normalised as in training, on the CPU. ``plugins`` are those with which the run was started.
        Raises UserError if the trial has not finished, its model is not registered, or its code has changed since the
        run started, unless ``allow_changed_plugins``.
        """
        from st3sweep.export.from_run import load_model
        from st3sweep.training.components import register_components

        register_components(plugins)
        return load_model(self.folder, trial, allow_changed=allow_changed_plugins)

    def export(
        self,
        trial: int,
        path: Path | str | None = None,
        format: str = "safetensors",
        plugins: Sequence[str] = (),
        *,
        fp16: bool = False,
        zstd: bool = False,
        keep_dead_channels: bool = False,
        allow_changed_plugins: bool = False,
    ) -> Path:
        """Write a finished trial's sparse model to a file, for ``sparse`` a folder, and return its path.

        By default it is in the trial's folder; ``format`` is safetensors, pt, onnx, openvino, sparse or packed, which
        ``fp16`` and ``zstd`` make smaller; files for onnx, openvino and sparse lose dead channels unless
        ``keep_dead_channels``. Raises UserError before anything is written.
        """
        from st3sweep.commands.export import ExportConfig, write_model
        from st3sweep.training.components import register_components

        register_components(plugins)
        out = None if path is None else Path(path)
        config = ExportConfig(format, fp16, zstd, keep_dead_channels)
        return write_model(self.folder, trial, out, config, allow_changed=allow_changed_plugins).path

    def reproduce(
        self, trial: int, device: str = "auto", plugins: Sequence[str] = (), *, allow_changed_plugins: bool = False
    ) -> pd.DataFrame:
        """Train a finished trial again and return the recorded and the new value of each number, a row a number."""
        import pandas as pd

        from st3sweep.commands.reproduce import reproduce
        from st3sweep.runs.folder import free_folder, trial_folder
        from st3sweep.training.components import register_components

        register_components(plugins)
        out = free_folder(trial_folder(self.folder, trial) / "reproduced")

        def say(line: str) -> None:
            """Print nothing: which versions and hardware differ is seen in the numbers."""

        rows = reproduce(self.folder, trial, out, device, say, allow_changed_plugins=allow_changed_plugins)
        return pd.DataFrame(rows, columns=["number", "recorded", "now"]).set_index("number")
