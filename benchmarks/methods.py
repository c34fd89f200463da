"""Measure one optimisation step of every method against the dense step, in one run.

    python benchmarks/methods.py [--arch cifar_resnet] [--batch 128] [--threads 2] [--repeats 10] [--json]

All at 90 % sparsity and the end of training. Mask updates are measured as separate steps and spread over the steps
between two updates in 160 epochs of 351 steps. ProbMask counts per mask, of which a step has two. Prints the median
over rounds and the quartiles.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, NamedTuple

from step import arguments, batch, network, ours, trial
from turns import facts, seconds_of

STEPS = 160 * 351  # of the paper's CIFAR recipe


class Measured(NamedTuple):
    """A method, the fraction of training between mask updates (0: not measured separately), and passes per step."""

    sparsity: dict[str, Any]
    interval: float = 0.0
    passes: int = 1


METHODS = {
    "dense": Measured({"method": "dense"}),
    "ST-3": Measured({"method": "st3"}),
    "ST-3σ": Measured({"method": "st3", "criterion": "sigma"}),
    "ST-3 LAMP": Measured({"method": "st3", "criterion": "lamp"}),
    "GMP": Measured({"method": "gmp"}, interval=0.01),
    "GMP global": Measured({"method": "gmp", "allocation": "global"}, interval=0.01),
    "static+ERK": Measured({"method": "static"}),
    "RigL+ERK": Measured({"method": "rigl"}, interval=1 / 320),
    "GraNet": Measured({"method": "granet"}, interval=0.016),
    "DNW": Measured({"method": "dnw"}),
    "STR": Measured({"method": "str", "s_init": -5.0}),
    "ProbMask, a mask": Measured({"method": "probmask"}, passes=2),
}


def per_step(measured: Measured, plain: Sequence[float], update: Sequence[float] | None) -> list[float]:
    """Return the seconds of a step in each round, with mask updates spread over the steps between them."""
    if update is None:
        return [seconds / measured.passes for seconds in plain]
    steps = measured.interval * STEPS
    return [(one + (steps - 1) * other) / steps for one, other in zip(update, plain, strict=True)]


def main() -> None:
    chosen = arguments((__doc__ or "").splitlines()[0])
    x, y = batch(chosen)
    steps: dict[str, Callable[[], None]] = {}
    for name, measured in METHODS.items():
        target = {} if measured.sparsity["method"] in ("dense", "str") else {"target": 0.9}
        spec = trial(chosen.arch, measured.sparsity | target)
        steps[name] = ours(spec, network(chosen), x, y)
        if measured.interval:
            # By 5 % of training the masks of all of them have begun to change.
            times = (0.05 + number * measured.interval for number in count())
            steps[f"{name}, update"] = ours(spec, network(chosen), x, y, lambda times=times: next(times))  # type: ignore[misc]
    found = seconds_of(steps, chosen.repeats, warm_up=3)
    if chosen.json:
        print(json.dumps({**facts(chosen.device), "benchmark": "step of each method", "seconds": found}))
        return
    print(f"step of {chosen.arch}, batch {chosen.batch} of {chosen.size} pixels")
    print(", ".join(f"{key} {value}" for key, value in facts(chosen.device).items()))
    for name, measured in METHODS.items():
        update = found.get(f"{name}, update")
        seconds = per_step(measured, found[name], update)
        extra = [100 * (one / dense - 1) for one, dense in zip(seconds, found["dense"], strict=True)]
        low, _, high = statistics.quantiles(extra, n=4)
        print(
            f"  {name:<16} {1e3 * statistics.median(seconds):>9.4g} ms  {statistics.median(extra):+6.1f} % "
            f"({low:+.1f} to {high:+.1f})"
            + ("" if update is None else f"  an update {1e3 * statistics.median(update):.4g} ms")
        )


if __name__ == "__main__":
    main()
