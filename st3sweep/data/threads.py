"""Process many images in a few threads: PIL, torch and numpy release the GIL while they work on one."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice, pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Made = TypeVar("Made")
_RUN = 16  # images submitted to a thread at a time: a small one takes less time than its submission


def in_order(makes: Iterable[Callable[[], Made]]) -> Iterator[Made]:
    """Yield the result of each of ``makes`` in order, computed ahead in a few threads; raise the first error."""
    waiting: deque[Future[list[Made]]] = deque()
    left = iter(makes)
    with ThreadPoolExecutor(_workers()) as pool:
        try:
            while run := list(islice(left, _RUN)):
                waiting.append(pool.submit(_all_of, run))
                if len(waiting) > 2 * _workers():
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _all_of(makes: list[Callable[[], Made]]) -> list[Made]:
    return [make() for make in makes]


def fill(make: Callable[[int], NDArray[np.uint8]], count: int, size: int) -> NDArray[np.uint8]:
    """Stack ``make(0)`` to ``make(count - 1)``, each (3, size, size), in one array; raise the first error."""
    images = np.empty((count, 3, size, size), dtype=np.uint8)
    workers = _workers()

    def make_run(run: tuple[int, int]) -> None:
        for index in range(*run):
            images[index] = make(index)

    # Several runs for each thread: images differ in cost.
    runs = np.linspace(0, count, min(count, 8 * workers) + 1).astype(int).tolist()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(make_run, pairwise(runs)))
    return images


def _workers() -> int:
    """Return the number of threads: OMP_NUM_THREADS (set by Ray to a worker's CPUs), or all CPUs; at most 16."""
    lent = os.environ.get("OMP_NUM_THREADS", "")
    return min(16, int(lent) if lent.isdigit() and int(lent) else os.cpu_count() or 1)
