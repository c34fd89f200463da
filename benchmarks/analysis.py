"""Time fronts, hypervolumes and plots of up to a million trials, beside moocore.

    python benchmarks/analysis.py [--trials 1000000] [--repeats 5]

Prints medians of the repeats with their range, in seconds of wall time, and the median seconds of this process. The
cloud is one of random trials under a front: accuracy rises with log cost, less a half-normal distance. The table has
the columns that a run's has, of two methods.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import moocore
import numpy as np
import pandas as pd

from st3sweep.analysis.figures import save
from st3sweep.analysis.fronts import front, front_hypervolume
from st3sweep.analysis.plots import plot_front
from st3sweep.analysis.selection import plot_selection
from st3sweep.pareto import hypervolume, pareto_mask

GOALS = ("max", "min")


def cloud(count: int) -> pd.DataFrame:
    """Return the table of ``count`` finished trials."""
    random = np.random.default_rng(0)
    cost = np.exp(random.uniform(np.log(0.02), np.log(4.0), count))
    top1 = 60 + 4 * np.log(cost / 0.02) - np.abs(random.normal(0, 3, count))
    method = np.where(random.random(count) < 0.5, "ST-3", "ST-3σ")
    columns = {
        "val_top1": top1,
        "test_top1": top1 - 0.3 + random.normal(0, 0.3, count),
        "gflops": cost,
        "method": method,
    }
    fixed = {"status": "finished", "model": "resnet50", "dataset": "cloud", "gflops_dense": 4.089}
    return pd.DataFrame({"trial": np.arange(count), **columns}).assign(**fixed)


def timed(what: str, repeats: int, run: Callable[[], object]) -> object:
    """Print the median and the range of the seconds of ``run``, and return what it returned."""
    run()  # imports and caches
    seconds, spent = [], []
    for _ in range(repeats):
        begin, used = time.perf_counter(), time.process_time()
        found = run()
        seconds.append(time.perf_counter() - begin)
        spent.append(time.process_time() - used)
    print(
        f"{what:<52} {np.median(seconds):7.2f} ({min(seconds):.2f} to {max(seconds):.2f})  {np.median(spent):7.2f}",
        flush=True,
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    trials = cloud(args.trials)
    points = trials[["val_top1", "gflops"]].to_numpy()
    costs = points * [-1, 1]  # moocore minimises
    print(f"{args.trials:,} trials, {args.repeats} repeats: median seconds of wall (range), and of the process")
    own = timed("front: st3sweep.pareto.pareto_mask", args.repeats, lambda: pareto_mask(points, GOALS))
    other = timed("front: moocore.is_nondominated", args.repeats, lambda: moocore.is_nondominated(costs))
    assert np.array_equal(own, other), "the two fronts differ"
    print(f"  members: {np.count_nonzero(own)}")
    ours = timed("hypervolume: st3sweep", args.repeats, lambda: hypervolume(points, GOALS, (0.0, 4.089)))
    theirs = timed("hypervolume: moocore", args.repeats, lambda: moocore.hypervolume(costs, ref=[0.0, 4.089]))
    assert abs(ours - theirs) < 1e-9 * theirs, "the two hypervolumes differ"
    timed("front of the table: analysis.fronts.front", args.repeats, lambda: front(trials))
    timed("hypervolume of the table", args.repeats, lambda: front_hypervolume(trials))
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("png", "pdf"):
            path = Path(folder) / f"front.{suffix}"
            timed(f"plot_front, saved as {suffix}", args.repeats, lambda path=path: save(plot_front(trials), path))
            print(f"  {path.stat().st_size / 1000:.0f} kB")
        path = Path(folder) / "selection.png"
        timed("plot_selection, saved as png", args.repeats, lambda: save(plot_selection(trials), path))


if __name__ == "__main__":
    main()
