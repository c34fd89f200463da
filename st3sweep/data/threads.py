"""Many images in a few threads: PIL, torch and numpy let go of the interpreter lock while they work on one."""

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
_RUN = 16  # images that a thread is given at a time: small ones take less long than the giving


def in_order(makes: Iterable[Callable[[], Made]]) -> Iterator[Made]:
    """What each of ``makes`` gives, made in a few threads up to a bounded number ahead; the first error is raised."""
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
    """``make(0)`` to ``make(count - 1)``, each (3, size, size), as one array; the first error is raised."""
    images = np.empty((count, 3, size, size), dtype=np.uint8)
    workers = _workers()

    def make_run(run: tuple[int, int]) -> None:
        for index in range(*run):
            images[index] = make(index)

    runs = np.linspace(0, count, min(count, 8 * workers) + 1).astype(int).tolist()  # a few each: they differ in cost
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(make_run, pairwise(runs)))
    return images


def _workers() -> int:
    """How many threads: Ray sets OMP_NUM_THREADS to the CPUs that it lends to a worker."""
    lent = os.environ.get("OMP_NUM_THREADS", "")
    return min(16, int(lent) if lent.isdigit() and int(lent) else os.cpu_count() or 1)
