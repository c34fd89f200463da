"""Time a step of two ranks whose gradients are averaged during the backward pass, in buckets of several sizes.

    python benchmarks/averaging.py [--arch resnet50] [--size 64] [--batch 8] [--rounds 8] [--megabytes 1 8 25] [--gpus]

Beside them: no averages, and one message after the pass. On a CPU the ranks are two processes of one thread, with
gloo; with ``--gpus`` each has a GPU, and NCCL. A loopback interface has no bandwidth but the processors'. A network
namespace of its own gives it one:

    unshare -Urn sh -c 'ip link set lo up; tc qdisc add dev lo root tbf rate 4gbit burst 4mb latency 50ms; python …'
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import multiprocessing
from turns import facts

from st3sweep.networks import build_model
from st3sweep.training import buckets
from st3sweep.training.components import register_components
from st3sweep.training.world import World
from st3sweep.trial.recipes import resolve

STEPS = 3  # between two readings of the clock


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--arch", default="resnet50")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--megabytes", type=float, nargs="+", default=[1, 8, 25])
    parser.add_argument("--gpus", action="store_true")
    chosen = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free.getsockname()[1]))
    multiprocessing.start_processes(_rank, args=(chosen,), nprocs=2, start_method="spawn")


def _rank(rank: int, chosen: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    device = torch.device("cuda", rank) if chosen.gpus else torch.device("cpu")
    dist.init_process_group("nccl" if chosen.gpus else "gloo", rank=rank, world_size=2)
    register_components()
    fixed: dict[str, Any] = {"data": {"dataset": "cifar10", "root": "unused"}, "sparsity": {"method": "dense"}}
    spec = resolve({"model": {"arch": chosen.arch}, **fixed})
    torch.manual_seed(0)
    model = build_model(spec.model, 10, 3).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(chosen.batch, 3, chosen.size, chosen.size, device=device)
    y, world = torch.randint(10, (chosen.batch,), device=device), World(rank, 2, device)

    def step(megabytes: float | None) -> None:
        model.zero_grad()
        loss = F.cross_entropy(model(x), y)
        if megabytes is None:
            loss.backward()
            return
        buckets.BUCKET_BYTES = int(megabytes * 2**20)
        with world.averaging(model.parameters()):
            loss.backward()

    ways = {"no averages": None, "one message": 2.0**20, **{f"{size:g} MB": size for size in chosen.megabytes}}
    wall: dict[str, list[float]] = {name: [] for name in ways}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(chosen.rounds + 1):  # the first one warms up
        for name, size in ways.items():
            dist.barrier()
            started, used = time.perf_counter(), time.process_time()
            for _ in range(STEPS):
                step(size)
            dist.barrier()
            if chosen.gpus:
                torch.cuda.synchronize()
            if number:
                wall[name].append(1e3 * (time.perf_counter() - started) / STEPS)
                processor[name].append(1e3 * (time.process_time() - used) / STEPS)
    if rank == 0:
        print(f"{Path(__file__).name} {vars(chosen)}\n{facts(str(device))}")
        for name, times in wall.items():
            spread = f"{min(times):.0f} to {max(times):.0f}"
            used_ms = statistics.median(processor[name])
            print(
                f"  {name:<12} {statistics.median(times):>7.0f} ms ({spread}), processor time {used_ms:.0f} ms a rank"
            )
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
