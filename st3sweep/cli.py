"""The commands. What they do is elsewhere; here are their words, their output and their exit codes.

0 done · 2 something in the input is wrong · 4 some trials failed · 130 interrupted, can be resumed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from st3sweep.errors import SpecError, UserError
from st3sweep.text import aligned

app = typer.Typer(
    help="Find the best accuracy for every GFLOP that a convolutional network may spend.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Prepare the data of a study.", no_args_is_help=True)
app.add_typer(data_app, name="data")
out, err = Console(highlight=False), Console(stderr=True, highlight=False)

SpaceFile = Annotated[Path, typer.Argument(help="A search space in YAML.")]
RunFolder = Annotated[Path, typer.Argument(help="The folder of a run.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Override a field, e.g. train.epochs=10; repeatable."),
]
Address = Annotated[str | None, typer.Option(help="A Ray cluster to run on, e.g. auto. Default: Ray on this machine.")]


@app.command()
def run(
    space_file: SpaceFile,
    set_: Overrides = None,
    name: Annotated[str | None, typer.Option(help="Name of the run. Default: the space's.")] = None,
    storage: Annotated[Path, typer.Option(help="Folder of runs; on a cluster, a shared one.")] = Path("runs"),
    address: Address = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
) -> None:
    """Run a sweep and draw its Pareto front."""
    from st3sweep.loading import load_space
    from st3sweep.plan import check_data
    from st3sweep.run_folder import new_run

    space = load_space(space_file, _overrides(set_))
    if dry_run:
        _print_plan(space)
        return
    if address is None:  # a cluster's own machines may see data that this one does not
        check_data(space)
    folder = new_run(space, space_file, storage, name)
    _sweep(space, folder, address)


@app.command()
def resume(folder: RunFolder, address: Address = None) -> None:
    """Go on with a run: finished trials stay, unfinished ones continue from their checkpoints."""
    from st3sweep.loading import load_space
    from st3sweep.plan import check_data
    from st3sweep.run_folder import RESOLVED, existing_run

    folder = existing_run(folder)
    space = load_space(folder / RESOLVED)
    if address is None:
        check_data(space)
    _sweep(space, folder, address)


@app.command()
def validate(space_file: SpaceFile, set_: Overrides = None) -> None:
    """Check a search space and its data without starting anything."""
    from st3sweep.loading import load_space
    from st3sweep.plan import check_data

    check_data(load_space(space_file, _overrides(set_)))
    out.print(f"{space_file}: valid", soft_wrap=True)


@app.command()
def train(
    trial_file: Annotated[Path, typer.Argument(help="One trial in YAML: the fields of a space's trial part.")],
    set_: Overrides = None,
    folder: Annotated[Path | None, typer.Option("--out", help="Folder for its results; resumed if it has any.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, or auto.")] = "auto",
) -> None:
    """Train one trial in this process, without Ray."""
    from st3sweep.loading import load_trial
    from st3sweep.single import train_one

    spec = load_trial(trial_file, _overrides(set_))
    folder = folder or Path("runs") / f"{trial_file.stem}-{spec.digest()}-{spec.seed}"
    status = train_one(spec, folder, device, lambda line: out.print(line, soft_wrap=True))
    raise typer.Exit(0 if status == "finished" else 4)


class TableFormat(StrEnum):
    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"


@app.command()
def results(
    folder: RunFolder,
    format_: Annotated[TableFormat, typer.Option("--format", help="How to print it.")] = TableFormat.table,
    table: Annotated[str, typer.Option(help="trials, epochs or layers.")] = "trials",
) -> None:
    """Print a table of a run; with --format parquet, the path of its file."""
    from st3sweep.results import SCHEMAS, read_table, table_path

    if table not in SCHEMAS:
        raise UserError(f"--table {table}: allowed: {', '.join(SCHEMAS)}")
    rows = read_table(folder, table)
    if format_ is TableFormat.parquet:
        print(table_path(folder, table))
    elif format_ is TableFormat.csv:
        print(rows.to_csv(index=False), end="")
    elif format_ is TableFormat.json:
        print(rows.to_json(orient="records", force_ascii=False))
    else:
        hidden = ["params", "spec", "digest"]
        print(
            rows.drop(columns=[c for c in hidden if c in rows]).to_string(
                index=False, na_rep="-", float_format="{:.4g}".format
            )
        )


@app.command()
def pareto(
    folders: Annotated[list[Path], typer.Argument(help="Folders of one or several runs.")],
    as_json: Annotated[bool, typer.Option("--json", help="The front's rows as JSON.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw the front to this file.")] = None,
) -> None:
    """Print the Pareto front of accuracy versus cost, over one or several runs."""
    from analysis import tables
    from analysis.frontier import front

    trials = tables.load_trials(*folders)
    if as_json:
        print(front(trials).to_json(orient="records", force_ascii=False))
    else:
        print(tables.front_table(trials))
    if plot is not None:
        from analysis import plots

        plots.save(plots.plot_run(trials), plot)
        err.print(f"plot: {plot}", soft_wrap=True)


@app.command()
def pick(
    folder: RunFolder,
    max_gflops: Annotated[float | None, typer.Option(help="Most 1e9 multiply-accumulates of one image.")] = None,
    min_accuracy: Annotated[float | None, typer.Option(help="Least validation accuracy in percent.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The trial's row as JSON.")] = False,
) -> None:
    """Name the trial of the front that a budget or a wanted accuracy asks for."""
    from analysis import tables
    from analysis.frontier import front
    from analysis.frontier import pick as pick_trial

    trials = tables.load_trials(folder)
    chosen = pick_trial(trials, max_gflops, min_accuracy)
    if chosen.empty:
        raise UserError(f"{folder}: no trial of the front is allowed; it holds\n{tables.front_table(front(trials))}")
    if as_json:
        print(json.dumps(json.loads(chosen.to_json(orient="records", force_ascii=False))[0], ensure_ascii=False))
    else:
        print(tables.front_table(chosen))
        print(f"\nnext    st3sweep export {_short(folder)} {chosen['trial'].iloc[0]}")


class ModelFormat(StrEnum):
    safetensors = "safetensors"
    pt = "pt"


@app.command()
def export(
    folder: RunFolder,
    trial: Annotated[int, typer.Argument(min=0, help="The trial's number, as in the table of results.")],
    path: Annotated[Path | None, typer.Option("--out", help="File to write. Default: in the trial's folder.")] = None,
    format_: Annotated[ModelFormat, typer.Option("--format", help="pt is for readers without safetensors.")] = (
        ModelFormat.safetensors
    ),
    evaluate: Annotated[bool, typer.Option("--evaluate", help="Evaluate the file on the validation set too.")] = False,
) -> None:
    """Write a finished trial's sparse network, zeros in place, to a file that plain torch loads."""
    from st3sweep.run_folder import trial_folder
    from st3sweep.training.export import export as export_trial
    from st3sweep.training.export import validation_top1
    from st3sweep.training.model_file import counted, save, totals

    path = path or trial_folder(folder, trial) / f"model.{format_}"
    if path.suffix != f".{format_}":
        raise UserError(f"--out {path}: must end in .{format_}; see --format")
    state, metadata = export_trial(folder, trial)
    model = save(path, state, metadata, format_)
    costs, zeros = counted(model, metadata)
    _print_layers(costs, zeros)
    found = totals(costs, zeros)
    print(
        f"sparsity {found['sparsity']:.4f}, {1000 * found['gflops']:.4g} of {1000 * metadata['gflops_dense']:.4g} "
        f"MFLOPs, as recorded"
    )
    if evaluate:
        top1 = validation_top1(model, metadata, folder, trial)
        print(f"validation {top1:.2f} %, recorded {metadata['val_top1']:.2f} %")
    print(f"file: {_short(path)}")


@app.command()
def models(as_json: Annotated[bool, typer.Option("--json", help="The table's rows as JSON.")] = False) -> None:
    """Print the networks of the paper with their weights and cost, and every network's settings."""
    from st3sweep.networks import counted, networks_text

    print(json.dumps(list(counted())) if as_json else networks_text())


@data_app.command()
def pack(
    file: Annotated[Path, typer.Argument(help="A search space or a trial in YAML: it names the dataset.")],
    folder: Annotated[
        Path | None, typer.Option("--out", help="Folder of the pack. Default: the file's data.pack.")
    ] = None,
    short_side: Annotated[
        int | None, typer.Option(help="Pixels of the shorter side of photographs. Default: 256 for image_size 224.")
    ] = None,
    set_: Overrides = None,
) -> None:
    """Decode and resize every image once, so that trials read pixels at the speed of memory."""
    from st3sweep.packing import pack_data

    with _progress_bar("packing") as advance:
        made = pack_data(file, _overrides(set_), folder, short_side, advance)
    if made.left_out:
        err.print(f"left out: {made.left_out} images that cannot be read; see {made.folder / 'manifest.json'}")
    out.print(f"{made.folder}: {made.images:,} images. Trials read it with: data.pack: {made.folder}", soft_wrap=True)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a search space, for editors."""
    from st3sweep.json_schema import space_schema

    print(json.dumps(space_schema(), indent=2, ensure_ascii=False))


def main() -> None:
    """The entry point: mistakes of the user end with one line each and exit code 2."""
    with _clear_errors():
        app(standalone_mode=True)


@contextmanager
def _clear_errors() -> Iterator[None]:
    try:
        yield
    except SpecError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        sys.exit(2)
    except UserError as error:
        print(f"st3sweep: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


@contextmanager
def _progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal; gives ``advance(done, of)``."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def _overrides(texts: list[str] | None) -> dict[str, str]:
    pairs = {}
    for text in texts or []:
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise UserError(f"--set {text}: must be PATH=VALUE, e.g. --set train.epochs=10")
        pairs[path] = value
    return pairs


def _print_plan(space: Any) -> None:
    from st3sweep.plan import check_data, plan_text

    info, absent = None, None
    try:
        info = check_data(space)
    except SpecError as error:
        absent = error
    fields = space.spec.resources
    slots = f"{fields.slots} slots" if fields.slots else "as many slots as the cluster holds"
    print(plan_text(space, info, slots))
    for problem in absent.problems if absent else []:
        print(f"\nnot ready to run: {problem}", file=sys.stderr)


def _print_layers(costs: Any, zeros: list[int]) -> None:
    rows = [("layer", "weights", "zeros", "density", "MFLOPs")]
    for layer, count in zip(costs, zeros, strict=True):
        density = 1 - count / layer.numel
        rows.append((layer.name, str(layer.numel), str(count), f"{density:.4f}", f"{layer.macs * density / 1e6:.4g}"))
    print(aligned(rows, left=[0]))


def _sweep(space: Any, folder: Path, address: str | None) -> None:
    from st3sweep.sweep.runner import sweep

    out.print(f"run: {_short(folder)}", soft_wrap=True)
    complete = sweep(space, folder, address, out)
    failed = _report(folder)
    if not complete:
        err.print(f"interrupted; go on with: st3sweep resume {_short(folder)}", soft_wrap=True)
        raise typer.Exit(130)
    raise typer.Exit(4 if failed else 0)


def _report(folder: Path) -> int:
    """The front, the files, and what to do next; returns how many trials failed."""
    from analysis import plots, tables
    from st3sweep.run_folder import trial_folder

    trials = tables.load_trials(folder)
    picture = folder / "front.png"
    plots.save(plots.plot_run(trials), picture)
    print(f"\nPareto front\n{tables.front_table(trials)}\n")
    for label, path in (("trials", folder / "trials.parquet"), ("plot", picture), ("study", folder / "study.journal")):
        print(f"{label:<7} {_short(path)}")
    failed = int((trials["status"] == "failed").sum())
    if failed:
        print(f"\n{failed} of {len(trials)} trials failed; see the column error of: st3sweep results {_short(folder)}")
    best = int(trials.sort_values("val_top1", na_position="first")["trial"].iloc[-1])
    print(
        f"\nnext    st3sweep results {_short(folder)}\n"
        f"        st3sweep train {_short(trial_folder(folder, best))}/config.yaml --set seed=1\n"
        f"        st3sweep run search_spaces/cifar10_resnet20.yaml --dry-run"
    )
    return failed


def _short(path: Path) -> str:
    """Relative where that is shorter to read."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
