"""Run the two ranks of ``test_two_ranks.py`` in separate processes, which import this module."""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from interruptions import fit_in_pieces
from small_training import trained
from torch import multiprocessing

from st3sweep import data
from st3sweep.training.loop import fit
from st3sweep.training.world import World
from st3sweep.trial.settings import TrialSettings


def run(
    small: dict[str, TrialSettings], whole: dict[str, TrialSettings], dropout: TrialSettings, folder: Path
) -> list[dict[str, Any]]:
    """Return each rank's results: weights for each of ``small``, and what ``fit`` gave for each of ``whole``.

    Rank 1 asks to stop after every epoch, which must have no effect. Checkpoints of ``whole`` are in ``folder``, beside
    those of ``dropout``, trained without interruption and in pieces.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.set_forkserver_preload(["two_ranks"])  # imported once
    arguments = (port, small, whole, dropout, folder)
    multiprocessing.start_processes(_rank, args=arguments, nprocs=2, start_method="forkserver")
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]


def _rank(
    rank: int,
    port: int,
    small: dict[str, TrialSettings],
    whole: dict[str, TrialSettings],
    dropout: TrialSettings,
    folder: Path,
) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2, timeout=timedelta(seconds=60))
    world = World(rank, 2)
    found: dict[str, Any] = {}
    for name, spec in whole.items():
        records: list[dict[str, Any]] = []
        result = fit(spec, world, lambda record, to=records: to.append(record) or rank == 1, folder / name)  # type: ignore[misc]
        found[name] = {"records": records, "result": result}
    splits = data.load(dropout.data)
    fit(dropout, world, lambda _: False, folder / "dropout", splits)
    _, found["interruptions"] = fit_in_pieces(dropout, world, folder / "dropout in pieces", splits, batches=3)
    found["generator seed"] = torch.initial_seed()
    for name, spec in small.items():
        training = trained(spec, world=world)
        sparse = training.method.sparsify(training.weights) or training.weights
        found[name] = {"dense": [w.detach() for w in training.weights], "sparse": [w.detach() for w in sparse]}
    torch.save(found, folder / f"rank{rank}.pt")
    dist.destroy_process_group()
