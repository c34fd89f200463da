"""The Python API: ``run`` a sweep, ``load_run``, ``train`` one trial; every command has its twin here or in ``Run``.

Nothing here needs torch or Ray before it trains, exports or loads a model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from st3sweep.commands.from_python import shown, texts
from st3sweep.commands.opened_run import Run
from st3sweep.runs.bring import local_run

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

    from st3sweep.commands.cost import NetworkCost
    from st3sweep.commands.doctor import Check
    from st3sweep.commands.reading import Source
    from st3sweep.commands.train_own import TrainedTrial
    from st3sweep.trial.metric import Metric

__all__ = [
    "Run",
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
    from st3sweep.commands.run import run as run_sweep

    with shown(progress):
        folder, _ = run_sweep(
            space, texts(overrides), name=name, storage=Path(storage), address=address, track=track, plugins=plugins,
            as_json=not progress, verbose=False,
        )  # fmt: skip
    return Run(folder)


def load_run(folder: Path | str) -> Run:
    """Open the run in ``folder``, or at an address, ``s3://bucket/runs/name``, running or not.

    Needs neither torch nor Ray. Raises UserError if it is not a run.
    """
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

    folders = [local_run(run) for run in runs]
    return front(load_trials(*folders), objectives_of(*folders))


def report(*runs: Path | str, out: Path | str | None = None, watch: bool = False, port: int = 0) -> Path | None:
    """Write an interactive report of one or several runs: one HTML file that needs no network; return its path.

    ``out`` is by default report.html in the run's folder, or in the working directory if there are several runs. With
    ``watch`` it is served on this machine instead (``port`` 0 takes a free one), updated as trials end, until the
    program is interrupted; returns None. Raises UserError where a run has no tables or the file cannot be written.
    """
    from st3sweep.commands.report import watch_report, write_report

    folders = [local_run(run) for run in runs]
    if not watch:
        return write_report(folders, None if out is None else Path(out))
    watch_report(folders, port)
    return None


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


def models() -> pd.DataFrame:
    """Return the paper's models: their weights and multiply-accumulates, counted and published, a row a model."""
    import pandas as pd

    from st3sweep.networks.published import counted
    from st3sweep.training.components import register_components

    register_components()
    return pd.DataFrame(counted())


def doctor(
    space: Source | None = None, storage: Path | str = "runs", plugins: Sequence[str] = (), *, calibrate: bool = False
) -> list[Check]:
    """Check whether this machine is ready: versions, devices, storage, and the data of ``space``; changes nothing.

    With ``calibrate`` it first fits the prediction of latency to this machine, which takes about a minute.
    """
    from st3sweep.commands.doctor import checks

    if calibrate:
        from st3sweep.export.calibration import calibrate as fit_latency

        fit_latency()
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
