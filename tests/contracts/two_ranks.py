"""Run the two ranks of ``test_two_ranks.py`` in separate processes, which import this module."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from averaging import compared
from interruptions import fit_in_pieces
from small_training import trained
from torch import multiprocessing

from st3sweep import data
from st3sweep.training import buckets
from st3sweep.training.loop import fit
from st3sweep.training.world import World
from st3sweep.trial.settings import TrialSettings


def run(small: dict[str, TrialSettings], whole: dict[str, TrialSettings], dropout: TrialSettings, folder: Path) -> None:
    """Have each rank leave its results: weights for each of ``small``, and what ``fit`` gave for each of ``whole``.

    ``small`` trains twice: by one message a pass, and by a message for each parameter ("in buckets"). Rank 1 asks to
    stop after every epoch, which must have no effect. Checkpoints of ``whole`` are in ``folder``, beside
    those of ``dropout``, trained without interruption and in pieces.
    """
    start(2, _rank, folder, small, whole, dropout)


def start(size: int, function: Callable[..., None], folder: Path, *arguments: Any) -> None:
    """Run ``function(rank, size, port, folder, *arguments)`` on each rank of a group of gloo."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.set_forkserver_preload(["two_ranks"])  # imported once
    multiprocessing.start_processes(
        function, args=(size, port, folder, *arguments), nprocs=size, start_method="forkserver"
    )


def results(size: int, folder: Path) -> list[dict[str, Any]]:
    """Return what each rank left."""
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(size)]


def averages_of_rank(rank: int, size: int, port: int, folder: Path) -> None:
    found = compared(_joined(rank, size, port))
    torch.save(found, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


def _joined(rank: int, size: int, port: int) -> World:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=size, timeout=timedelta(seconds=60))
    return World(rank, size)


def _rank(
    rank: int,
    size: int,
    port: int,
    folder: Path,
    small: dict[str, TrialSettings],
    whole: dict[str, TrialSettings],
    dropout: TrialSettings,
) -> None:
    world = _joined(rank, size, port)
    found: dict[str, Any] = {}
    for name, spec in whole.items():
        records: list[dict[str, Any]] = []
        result = fit(spec, world, lambda record, to=records: to.append(record) or rank == 1, folder / name)  # type: ignore[misc]
        found[name] = {"records": records, "result": result}
    splits = data.load(dropout.data)
    fit(dropout, world, lambda _: False, folder / "dropout", splits)
    _, found["interruptions"] = fit_in_pieces(dropout, world, folder / "dropout in pieces", splits, batches=3)
    found["generator seed"] = torch.initial_seed()
    for prefix, buckets.BUCKET_BYTES in (("in buckets: ", 1), ("", 1 << 30)):
        for name, spec in small.items():
            training = trained(spec, world=world)
            sparse = training.method.sparsify(training.weights) or training.weights
            weights = {"dense": [w.detach() for w in training.weights], "sparse": [w.detach() for w in sparse]}
            found[prefix + name] = weights | {"other": [p.detach() for p in training.net.parameters()]}
    found["errors"] = [repr(world.first_error(error)) for error in (ValueError("a file") if rank == 1 else None, None)]
    found |= compared(world)
    torch.save(found, folder / f"rank{rank}.pt")
    dist.destroy_process_group()
