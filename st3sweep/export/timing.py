"""Time a model in the sparse engine on one thread of this machine, and notice whether others ran beside it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import psutil

from st3sweep.sparse_runtime.sparse_model import SparseModel

SECONDS = 0.3  # of calls, in which there are at least CALLS
CALLS = 15
WARM_UP = 3
WAITED = 1.1  # wall time over CPU time, above which the thread waited for its core
OTHERS = 0.1  # share of the machine's cores that others may keep busy


@dataclass(frozen=True)
class Timed:
    """Time of an image in ms: the least CPU time of a call. Alone, that is also its wall time.

    ``waited`` is wall over CPU time of all calls, ``others`` the share of the machine's cores that others kept busy.
    """

    milliseconds: float
    waited: float
    others: float

    @property
    def disturbed(self) -> bool:
        return self.waited > WAITED or self.others > OTHERS


def timed(model: SparseModel, seconds: float = SECONDS) -> Timed:
    """Time ``model`` on one random image, batch 1; it should have one thread.

    CPU time, not wall time: others that take the core do not lengthen it, though they empty its caches.
    """
    image = np.random.default_rng(0).standard_normal((1, *model.input_shape), np.float32)
    logits = np.empty((1, model.classes), np.float32)
    for _ in range(WARM_UP):
        model(image, logits)
    took: list[float] = []
    busy, own, wall, cpu = _busy(), time.process_time(), time.perf_counter(), time.thread_time()
    while len(took) < CALLS or time.perf_counter() < wall + seconds:
        start = time.thread_time()
        model(image, logits)
        took.append(time.thread_time() - start)
    cpu, wall, own = time.thread_time() - cpu, time.perf_counter() - wall, time.process_time() - own
    others = max(0.0, _busy() - busy - own) / wall / (psutil.cpu_count() or 1)
    return Timed(1e3 * min(took), wall / max(cpu, 1e-9), others)


def _busy() -> float:
    """Return the seconds that all cores have been busy for, whoever's time it was."""
    times = psutil.cpu_times()._asdict()
    counted = ("user", "nice", "system", "irq", "softirq", "steal")  # guest is in user, iowait is idle
    return float(sum(times.get(name, 0.0) for name in counted))
