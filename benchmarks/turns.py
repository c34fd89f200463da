"""Shared by the benchmarks: competitors that take turns, a table of ratios, and facts on hardware and versions."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from st3sweep.runs.provenance import processor

Times = dict[str, list[float]]  # seconds of each repetition


def seconds_of(competitors: dict[str, Callable[[], Any]], repeats: int, warm_up: int = 1) -> Times:
    """Time every competitor once in each of ``repeats`` rounds, so that other load affects all of them."""
    found: Times = {name: [] for name in competitors}
    for number in range(warm_up + repeats):
        for name, run in competitors.items():
            wait()
            started = time.perf_counter()
            run()
            wait()
            if number >= warm_up:
                found[name].append(time.perf_counter() - started)
    return found


def wait() -> None:
    """Wait until the GPU has finished its queued work (host-device synchronisation)."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def facts(device: str) -> dict[str, Any]:
    """Return hardware and versions."""
    gpu = {"gpu": torch.cuda.get_device_name(device)} if device.startswith("cuda") else {}
    return {
        "cpu": processor(), "cpus": os.cpu_count(), "threads": torch.get_num_threads(), **gpu,
        "python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__,
    }  # fmt: skip


def show(title: str, found: Times, base: str, as_json: bool, device: str) -> None:
    """Print median, spread, and speed relative to ``base`` by the medians."""
    if as_json:
        print(json.dumps({**facts(device), "benchmark": title, "base": base, "seconds": found}))
        return
    print(f"{title}\n{', '.join(f'{key} {value}' for key, value in facts(device).items())}")
    width = max(map(len, found))
    for name, times in found.items():
        median, spread = statistics.median(times), f"{1e3 * min(times):.3g} to {1e3 * max(times):.3g}"
        ratio = statistics.median(found[base]) / median
        print(f"  {name:<{width}}  {1e3 * median:>9.3g} ms  ({spread:<16})  {ratio:7.2f}x")
