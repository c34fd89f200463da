"""Define, write and read the three tables of a run as Parquet files: one row per trial, per epoch, per layer.

Columns, types and the schema version are defined here and nowhere else. Percent for accuracies, fractions for sparsity
and density, ``gflops`` in 1e9 multiply-accumulates (see ``networks/flops.py``), seconds for times. A column that a
trial has no value for (a failed one has no accuracy) holds null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from st3sweep.pareto import Goal
from st3sweep.util.errors import ResultsError
from st3sweep.util.storage.atomic import atomic_write

SCHEMA_VERSION = 3

TRIALS = pa.schema(
    [
        ("trial", pa.int64()),  # number of the trial in its run, from 0
        ("status", pa.string()),  # finished | stopped (early) | failed | running
        ("error", pa.string()),  # one line, failed trials only
        ("replicate_of", pa.int64()),  # trial that this one repeats with another seed; null for trials of the search
        ("reused_from", pa.string()),  # run and trial whose result it reuses; null if it was trained
        ("digest", pa.string()),  # hash of the resolved trial, without seed and paths
        ("method", pa.string()),  # as the papers name it: ST-3, ST-3σ, dense, ...
        ("model", pa.string()),  # e.g. resnet20, mobilenet_v1
        ("dataset", pa.string()),
        ("seed", pa.int64()),
        ("sparsity_target", pa.float64()),  # null where the target is a budget
        ("gflops_target", pa.float64()),  # null where the target is a sparsity
        ("sparsity", pa.float64()),  # zeros counted in the evaluated weights of the best epoch
        ("val_top1", pa.float64()),  # best among the epochs at the target sparsity
        ("test_top1", pa.float64()),  # of that epoch's weights, evaluated once
        ("val_top5", pa.float64()),  # null for 20 classes or fewer
        ("test_top5", pa.float64()),
        ("gflops", pa.float64()),
        ("gflops_dense", pa.float64()),
        ("training_gflops", pa.float64()),  # of all forward and backward passes of training (``flops.training_gflops``)
        ("best_epoch", pa.int64()),
        ("epochs", pa.int64()),  # number of epochs trained
        ("rung", pa.int64()),  # last rung of early stopping that it reached, from 0; null without early stopping
        ("workers", pa.int64()),
        ("precision", pa.string()),  # that it was trained in: fp32, tf32 (a GPU's float32) or bf16
        ("wall_seconds", pa.float64()),  # training, validation and test of this trial
        ("gpu_hours", pa.float64()),  # held by all its workers together; 0 without GPUs
        ("cost", pa.float64()),  # of the time it held its devices, in the currency of their price; null without one
        ("params", pa.string()),  # JSON: what the search chose
        ("spec", pa.string()),  # JSON: the resolved trial
    ]
)

EPOCHS = pa.schema(
    [
        ("trial", pa.int64()),
        ("epoch", pa.int64()),  # number of epochs completed, from 1
        ("progress", pa.float64()),  # fraction of training done
        ("ramp_progress", pa.float64()),  # fraction of the way to the target that the ramp sets; null without a ramp
        ("ratio", pa.float64()),  # sparsity that the ramp sets after this epoch
        ("threshold", pa.float64()),  # mean over the prunable weights; null where the method has none
        ("sparsity", pa.float64()),
        ("gflops", pa.float64()),
        ("gflops_final", pa.float64()),  # of the current weights at the final sparsity
        ("lr", pa.float64()),  # of the epoch's last step
        ("weight_decay", pa.float64()),
        ("train_loss", pa.float64()),
        ("val_loss", pa.float64()),
        ("val_top1", pa.float64()),
        ("val_top5", pa.float64()),  # null for 20 classes or fewer
        ("at_target", pa.bool_()),
        ("dead_channels", pa.int64()),  # output channels without a non-zero weight
        ("flip_rate", pa.float64()),  # fraction of prunable weights whose mask changed since the previous epoch
        ("mismatch", pa.float64()),  # |θ̂ - θ| / |θ| over all prunable weights
        ("seconds", pa.float64()),
    ]
)

LAYERS = pa.schema(
    [
        ("trial", pa.int64()),
        ("layer", pa.string()),
        ("position", pa.int64()),  # order in the forward pass, from 0
        ("shape", pa.string()),  # e.g. 16x3x3x3
        ("numel", pa.int64()),
        ("density", pa.float64()),
        ("macs_dense", pa.int64()),
        ("macs", pa.float64()),  # macs_dense * density
        ("threshold", pa.float64()),  # null where the method has none
        ("dead_channels", pa.int64()),
        ("flip_rate", pa.float64()),
        ("mismatch", pa.float64()),
    ]
)

# Columns of TRIALS that follow those above, in runs that were measured (``space/measuring.py``)
MEASURED = pa.schema(
    [
        ("latency_disturbed", pa.bool_()),  # whether others ran beside the measurement; null where none was made
        ("latency_ms", pa.float64()),  # of one image on one thread of the sparse runtime; predicted until measured
        ("latency_predicted_ms", pa.float64()),  # from the layers (``networks/latency.py``), for this machine
        ("size_mb", pa.float64()),  # of the packed file, in 1e6 bytes
    ]
)

# Added without a new version: absent in older tables.
_LATER_COLUMNS = ("val_top5", "test_top5", "precision", "threshold")

SCHEMAS: dict[str, pa.Schema] = {"trials": TRIALS, "epochs": EPOCHS, "layers": LAYERS}


def table_path(run: Path | str, name: str) -> Path:
    """Return the path of table ``name`` (trials, epochs, layers) in the folder of a run."""
    return Path(run) / f"{name}.parquet"


def is_own_metric(column: str) -> bool:
    """Whether ``column`` holds the values of a model's own metric (``trial.metric``)."""
    return column.startswith(("val_", "test_")) and column not in (*TRIALS.names, "val_loss")


def is_column_of_trials(column: str) -> bool:
    """Whether a value of a trial's result is a column of its table."""
    return column in TRIALS.names or column in MEASURED.names or is_own_metric(column)


def shown_by(objectives: Sequence[tuple[str, Goal]]) -> tuple[tuple[str, Goal], ...]:
    """Return what a front is shown by: ``objectives`` of a model's own metric and gflops, else accuracy and gflops."""
    own = [column for column, _ in objectives if is_own_metric(column)]
    follows = own and len(objectives) == 2 and ("gflops", "min") in objectives
    return tuple(objectives) if follows else (("val_top1", "max"), ("gflops", "min"))


def own_columns(name: str, rows: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the columns in ``rows`` that not every table ``name`` has: models' own metrics, and MEASURED.

    Raises ValueError for an unknown one.
    """
    known, more = set(SCHEMAS[name].names), set[str]()
    allowed = set(MEASURED.names) if name == "trials" else set()
    for row in rows:
        if extra := row.keys() - known:
            if unknown := sorted(column for column in extra - allowed if name == "layers" or not is_own_metric(column)):
                raise ValueError(f"table {name} has no column {unknown}")
            more |= extra
    return more


def as_arrow(name: str, rows: Sequence[Mapping[str, Any]], more: Iterable[str]) -> pa.Table:
    """Return ``rows`` as table ``name`` with its columns, and last those of ``own_columns``, ``more``."""
    schema = SCHEMAS[name]
    for column in more:
        kind = MEASURED.field(column).type if column in MEASURED.names else pa.float64()
        schema = schema.append(pa.field(column, kind))
    columns = [pa.array([row.get(field.name) for row in rows], type=field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=versioned(name, schema))


def versioned(name: str, schema: pa.Schema) -> pa.Schema:
    """Return the schema with the table's name and version."""
    return schema.with_metadata({"st3sweep.schema": str(SCHEMA_VERSION), "st3sweep.table": name})


def write_table(path: Path | str, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write ``rows`` as table ``name``, replacing the file atomically. Raises ValueError for an unknown column.

    The columns of models' own metrics, ``val_<metric>`` and ``test_<metric>``, and those of MEASURED come last.
    """
    rows = list(rows)
    with atomic_write(Path(path), sync=False) as file:  # the ledger has all of it
        pq.write_table(as_arrow(name, rows, sorted(own_columns(name, rows))), file)


def read_table(run: Path | str, name: str) -> pd.DataFrame:
    """Return table ``name`` of a run. Raises ResultsError if it is absent or of another schema version.

    While a program runs the sweep, and after a kill, it is read from its parts. A column that its st3sweep did not know
    yet holds null.
    """
    from st3sweep.runs.table_rows import read_parts  # which writes with this module

    path = table_path(run, name)
    try:
        table = read_parts(Path(run), name)
        if table is None:
            if not path.is_file():
                raise ResultsError(f"{path}: not found; is {Path(run)} the folder of a run?")
            table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ResultsError(f"{path}: not a readable Parquet file ({error})") from error
    version = (table.schema.metadata or {}).get(b"st3sweep.schema", b"none").decode()
    if version != str(SCHEMA_VERSION):
        raise ResultsError(f"{path}: schema version {version}, but this st3sweep reads {SCHEMA_VERSION}")
    for place, field in enumerate(SCHEMAS[name]):
        if field.name in _LATER_COLUMNS and field.name not in table.column_names:
            table = table.add_column(place, field, pa.nulls(len(table), field.type))
    return table.to_pandas()
