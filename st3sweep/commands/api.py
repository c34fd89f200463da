"""The Python API: ``run`` a sweep, ``load_run``, ``train`` one trial; every command has its twin here or in ``Run``.

Nothing here needs torch or Ray before it trains, exports or loads a model.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from st3sweep.runs.folder import existing_run
from st3sweep.util.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import Tensor, nn

    from st3sweep.commands.cost import NetworkCost
    from st3sweep.commands.doctor import Check
    from st3sweep.commands.reading import Source
    from st3sweep.commands.train_own import TrainedTrial
    from st3sweep.early_stopping.replay import Replay, Unit
    from st3sweep.space.overrides import Overrides
    from st3sweep.trial.metric import Metric

__all__ = [
    "Run",
    "cost",
    "doctor",
    "front",
    "load_run",
    "pack",
    "plan",
    "run",
    "schema",
    "train",
    "validate",
]


def run(
    space: Source,
    *,
    storage: Path | str = "runs",
    overrides: Mapping[str, Any] | None = None,
    name: str | None = None,
    address: str | None = None,
    track: Sequence[str] = (),
    plugins: Sequence[str] = (),
    progress: bool = True,
) -> Run:
    """Run a sweep to its end, or until it is stopped, and return the run.

    ``space`` is a YAML file or its content as a mapping; ``overrides`` maps dotted paths to values, as ``--set`` does
    (``{"train.epochs": 20}``). ``storage``, ``name``, ``address``, ``track`` and ``plugins`` are the options of
    ``st3sweep run``. Models, datasets and methods that this program has registered from functions are known to the
    workers, too. Blocks; shows progress unless ``progress`` is False, in Jupyter as well. Interrupting it (Ctrl-C, the
    stop button) ends it after the current epochs; ``Run.resume`` continues it.

    Raises SpecError with every problem of the space, and UserError for anything else to put right, before any work.
    """
    from st3sweep.commands.run import removed_if_unused, run_to_the_end, start

    checked, folder = start(
        space, texts(overrides), name=name, storage=Path(storage), address=address, track=track, plugins=plugins
    )
    with _shown(progress), removed_if_unused(folder):
        run_to_the_end(checked, folder, address, track=track, plugins=plugins, as_json=not progress, verbose=False)
    return Run(folder)


def load_run(folder: Path | str) -> Run:
    """Open the run in ``folder``, running or not. Needs neither torch nor Ray. Raises UserError if it is not a run."""
    return Run(folder)


def validate(space: Source, overrides: Mapping[str, Any] | None = None, plugins: Sequence[str] = ()) -> None:
    """Check a search space and its data. Raises SpecError with every problem."""
    from st3sweep.commands.plan import check_data
    from st3sweep.commands.reading import read_space

    check_data(read_space(space, texts(overrides), plugins))


def plan(space: Source, overrides: Mapping[str, Any] | None = None, plugins: Sequence[str] = ()) -> None:
    """Print what a sweep would do: data, model, searched fields, trials, slots, one trial in full."""
    from st3sweep.commands.plan import print_plan
    from st3sweep.commands.reading import read_space

    print_plan(read_space(space, texts(overrides), plugins))


def front(*runs: Path | str) -> pd.DataFrame:
    """Return the Pareto front over several runs: rows of their tables of trials, with a column ``run``."""
    from st3sweep.analysis.fronts import front
    from st3sweep.analysis.tables import load_trials, objectives_of

    return front(load_trials(*runs), objectives_of(*runs))


def pack(
    source: Source,
    folder: Path | str | None = None,
    *,
    overrides: Mapping[str, Any] | None = None,
    short_side: int | None = None,
    plugins: Sequence[str] = (),
) -> Path:
    """Decode every image of the dataset that a space or a trial names into a pack, and return its folder.

    The folder is by default the ``data.pack`` of ``source``. ``short_side`` is that of photographs in pixels, by
    default 256 for images of 224. Raises UserError for a bad image, unless ``data.bad_images`` is skip.
    """
    from st3sweep.commands.pack import pack_data
    from st3sweep.reporting.console import progress_bar

    with progress_bar("packing") as advance:
        out = None if folder is None else Path(folder)
        return pack_data(source, texts(overrides), out, short_side, advance, plugins).folder


def cost(
    model: str,
    settings: Mapping[str, Any] | None = None,
    *,
    layers: Path | str | None = None,
    image_size: int | None = None,
    classes: int | None = None,
) -> NetworkCost:
    """Return a model's multiply-accumulates layer by layer, dense or at the sparsities in the file ``layers``.

    ``model`` is an arch, or a name of torchvision or timm; ``settings`` are its fields, ``{"depth": 56}``.
    """
    from st3sweep.commands.cost import network_cost

    return network_cost(
        model, texts(settings, "settings"), None if layers is None else Path(layers), image_size, classes
    )


def doctor(space: Source | None = None, storage: Path | str = "runs", plugins: Sequence[str] = ()) -> list[Check]:
    """Check whether this machine is ready: versions, devices, storage, and the data of ``space``; changes nothing."""
    from st3sweep.commands.doctor import checks

    return list(checks(Path(storage), space, plugins))


def schema(plugins: Sequence[str] = ()) -> dict[str, Any]:
    """Return the JSON Schema of a search space, with what ``plugins`` and this program have registered."""
    from st3sweep.space.json_schema import space_schema
    from st3sweep.training.components import register_components

    register_components(plugins)
    return space_schema()


def train(
    trial: Source,
    *,
    model: nn.Module | None = None,
    data: Any = None,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    metric: Metric | None = None,
    folder: Path | str | None = None,
    overrides: Mapping[str, Any] | None = None,
    device: str = "auto",
    plugins: Sequence[str] = (),
    progress: bool = True,
) -> TrainedTrial:
    """Train one trial in this process, without Ray, and return its result and its sparse model.

    ``trial`` is a YAML file or its content as a mapping: the fields of a search space's ``trial``. ``model`` replaces
    its ``model`` by any module (B, C, H, W) → (B, classes): a copy of it is trained, from its weights. ``data``
    replaces its ``data.dataset``: (train, validation, test), the last two possibly None, each (images, labels) or an
    object with ``__len__`` and ``__getitem__(i)`` → (image, label). uint8 images (N, C, H, W) are normalised by their
    mean and deviation, floating-point ones used as they are; ``data: {augment: {padding: 2, flip: true}}`` in the trial
    augments them. ``loss(outputs, labels)`` and ``metric`` go with ``model``, as in ``register_model``. ``folder``
    keeps checkpoints and tables, and a trial in it is resumed.

    Raises SpecError with every problem of the trial, and UserError for anything else to put right.
    """
    from st3sweep.commands.train_own import train

    return train(
        trial, model=model, data=data, loss=loss, metric=metric, folder=folder, overrides=texts(overrides),
        device=device, plugins=plugins, progress=progress,
    )  # fmt: skip


class Run:
    """A run in a folder: what it has found, and what can be done with it. Reads the files anew at every access."""

    def __init__(self, folder: Path | str):
        self.folder = existing_run(Path(folder))

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

    def front(self) -> pd.DataFrame:
        """Return the rows of ``trials`` on the Pareto front of validation accuracy over gflops, cheapest first.

        Where the space's objectives are an own metric of the model and gflops, it is the front of those.
        """
        return front(self.folder)

    def pick(self, max_gflops: float | None = None, min_accuracy: float | None = None) -> pd.Series[Any]:
        """Return one trial of the front, as its row.

        With ``max_gflops`` the most accurate that costs no more; with ``min_accuracy`` (validation, percent) the
        cheapest that is no less accurate; with neither the most accurate. Raises UserError where none qualifies.
        """
        from st3sweep.analysis.fronts import pick
        from st3sweep.analysis.tables import objectives_of

        trials = self.trials
        chosen = pick(trials, max_gflops, min_accuracy, objectives_of(self.folder))
        if chosen.empty:
            none = "meets the limits" if (trials["status"] == "finished").any() else "has finished"
            raise UserError(f"{self.folder}: no trial {none}")
        return chosen.iloc[0]

    def plot(self) -> Figure:
        """Return the plot of the front, a matplotlib Figure, beside published points where there are any."""
        from st3sweep.analysis.plots import plot_run
        from st3sweep.analysis.tables import objectives_of

        return plot_run(self.trials, objectives_of(self.folder))

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
        ``overrides`` change budget, replicates and resources; ``promote`` are early-stopped trials to train to the end.
        Raises SpecError and UserError before any work.
        """
        from st3sweep.commands.resume import resume

        with _shown(progress):
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
        from st3sweep.runs.folder import ask_to_stop

        ask_to_stop(self.folder, "drain" if drain else "now")

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
        """Write a finished trial's sparse model to a file, and return its path.

        By default the file is in the trial's folder; ``format`` is safetensors, pt, onnx, openvino or packed, which
        ``fp16`` and ``zstd`` make smaller; files for onnx and openvino lose dead channels unless
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


def texts(values: Mapping[str, Any] | None, argument: str = "overrides") -> Overrides:
    """Return the values of ``argument`` as YAML text; errors name it. Raises UserError for what is no such value."""
    from st3sweep.space.overrides import Overrides

    try:
        given = {path: value if isinstance(value, str) else json.dumps(value) for path, value in (values or {}).items()}
    except TypeError as error:
        raise UserError(f"{argument}: {error}") from None
    return Overrides(given, argument)


@contextmanager
def _shown(progress: bool) -> Iterator[None]:
    """Discard what a sweep without ``progress`` prints."""
    if progress:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield
