"""Lay out a sweep trial by trial: when each began and ended, how far it trained, and who stopped early."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from st3sweep.analysis.fronts import OBJECTIVES, Objectives, mark_front
from st3sweep.analysis.tables import load_epochs, load_trials, run_labels
from st3sweep.runs.ledger import LEDGER, Ledger

TIMELINE = [
    "run", "trial", "status", "rung", "epochs", "epochs_full", "trained", "ramp_progress", "val_top1", "gflops",
    "begin_seconds", "end_seconds", "on_front",
]  # fmt: skip


def timeline(*runs: Path | str, objectives: Objectives = OBJECTIVES) -> pd.DataFrame:
    """Return a row for each trial of ``runs``, in order of arrival.

    Columns: run; trial; status; rung, the last one it reached (NaN without early stopping); epochs trained and
    epochs_full, what the whole training has; trained, their ratio; ramp_progress at its last epoch; val_top1 and gflops
    there (of a finished trial: those of its best epoch), the cost being that at the final sparsity where it is known;
    begin_seconds and end_seconds on the run's clock, without the time between its sessions; on_front.

    The times are from the ledger, and NaN without one; a trial's begin is its end less the time of its epochs.
    """
    trials, epochs = mark_front(load_trials(*runs), objectives), load_epochs(*runs)
    last = epochs.sort_values("epoch").groupby(["run", "trial"]).last()
    seconds = epochs.groupby(["run", "trial"])["seconds"].sum()
    rows = trials.join(last, on=["run", "trial"], rsuffix="_last")
    progress = rows["progress"].to_numpy(dtype=float, na_value=np.nan)
    trained = rows["epoch"].to_numpy(dtype=float, na_value=np.nan)
    cost = rows["gflops_final"].fillna(rows["gflops_last"])
    ends = _ends(runs)
    end = pd.Series([ends.get((run, trial), np.nan) for run, trial in zip(rows["run"], rows["trial"], strict=True)])
    spent = pd.Series(
        [seconds.get((run, trial), np.nan) for run, trial in zip(rows["run"], rows["trial"], strict=True)]
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        full = np.round(trained / progress)
    return rows.assign(
        epochs=trained,
        epochs_full=full,
        trained=trained / full,
        val_top1=rows["val_top1"].fillna(rows["val_top1_last"]),
        gflops=rows["gflops"].fillna(cost),
        begin_seconds=np.maximum(0.0, end - spent),
        end_seconds=end,
    )[TIMELINE].reset_index(drop=True)


def stops_by_rung(table: pd.DataFrame) -> pd.DataFrame:
    """Count, from ``timeline``, how many trials reached each rung and how many were stopped there.

    Columns: rung; reached; stopped; share, their ratio; trained, the mean fraction of training of those stopped. Empty
    without early stopping.
    """
    known = table.dropna(subset=["rung"])
    rows = []
    for rung in range(int(known["rung"].max()) + 1 if len(known) else 0):
        stopped = known[(known["rung"] == rung) & (known["status"] == "stopped")]
        reached = int((known["rung"] >= rung).sum())
        rows.append((rung, reached, len(stopped), len(stopped) / reached, stopped["trained"].mean()))
    return pd.DataFrame(rows, columns=["rung", "reached", "stopped", "share", "trained"])


def _ends(runs: tuple[Path | str, ...]) -> dict[tuple[str, int], float]:
    """Return when each trial that is over ended; nothing of a run without a ledger."""
    found: dict[tuple[str, int], float] = {}
    for label, run in run_labels(runs).items():
        if (Path(run) / LEDGER).is_file():
            trials = Ledger(Path(run), read_only=True).trials.values()
            found |= {(label, trial.number): trial.ended for trial in trials if trial.ended is not None}
    return found
