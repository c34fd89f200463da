"""Measure the sampler's overhead per trial: ``ask`` and ``tell`` of two objectives, first trials against last.

    python benchmarks/samplers.py                     # every sampler, 1,000 trials (gp: 200)
    python benchmarks/samplers.py --parts             # the parts of random search's time
    python benchmarks/samplers.py --bounds 100 none   # TPE's fronts when it fits at most 100 trials, or all

Nothing is trained: the objectives are a formula. Wall time of one process, medians of 50 trials. For gp, whose trials
take seconds, medians of 5 after 10, 100 and 195 trials of a random search.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import optuna
import pandas
import scipy
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from st3sweep.commands.reading import read_space
from st3sweep.pareto import hypervolume
from st3sweep.search import fitted_trials
from st3sweep.search.journal import Journal
from st3sweep.search.searcher import Searcher
from st3sweep.space.space import Point, Space

ROOT = Path(__file__).resolve().parent.parent
SEARCH: dict[str, Any] = {
    "sparsity.target": {"float": [0.5, 0.99], "scale": "log1m"},
    "optim.lr": {"float": [0.01, 1.0], "scale": "log"},
    "optim.momentum": {"float": [0.8, 0.99]},
    "train.label_smoothing": {"float": [0.0, 0.2]},
    "model.depth": {"int": [8, 56], "step": 6},
    "sparsity.criterion": {"choice": ["l1", "sigma"]},
}
TRIALS = {"random": 1000, "qmc": 1000, "grid": 1000, "nsga2": 1000, "tpe": 1000, "gp": 200}


def space(sampler: str, folder: Path) -> Space:
    search = SEARCH
    if sampler == "grid":
        values = {
            path: {"choice": [0.01 * (i + 1) for i in range(10)]} for path in ("optim.lr", "train.label_smoothing")
        }
        search = {
            **values,
            "sparsity.target": {"choice": [0.5, 0.6, 0.7, 0.8, 0.9]},
            "model.depth": SEARCH["model.depth"],
        }
        search |= {"sparsity.criterion": SEARCH["sparsity.criterion"]}
    fields = {
        "schema": "st3sweep/v1",
        "name": "benchmark",
        "trial": {"model": {"arch": "cifar_resnet"}, "data": {"dataset": "digits"}, "sparsity": {"method": "st3"}},
        "search": search,
        "searcher": {"sampler": sampler},
        "budget": {"trials": TRIALS[sampler]},
    }
    (folder / "space.yaml").write_text(yaml.safe_dump(fields, sort_keys=False))
    return read_space(folder / "space.yaml")


def objectives(point: Point) -> list[float]:
    cost = (1 - point["sparsity.target"]) * point["model.depth"]
    return [90 - 20 / (1 + cost) - abs(point["optim.lr"] - 0.1), cost]


def seconds_of_trials(sampler: str, trials: int) -> list[float]:
    """Return the wall seconds of ask plus tell for each trial."""
    with tempfile.TemporaryDirectory() as name:
        return run(Searcher(space(sampler, Path(name)), Path(name)), trials)


def run(searcher: Searcher, trials: int, clock: Callable[[], float] = time.perf_counter) -> list[float]:
    seconds = []
    for _ in range(trials):
        started = clock()
        number, point = searcher.ask()
        searcher.tell(number, objectives(point))
        seconds.append(clock() - started)
    return seconds


def growth(sampler: str, trials: int) -> dict[str, Any]:
    if sampler == "gp":
        after = {"first": 10, "middle": trials // 2, "last": trials - 5}
        times = {name: seconds_after(sampler, count) for name, count in after.items()}
    else:
        seconds = seconds_of_trials(sampler, trials)
        times = {"first": seconds[:50], "middle": seconds[trials // 2 :][:50], "last": seconds[-50:]}
    milliseconds = {f"{name}_ms": 1e3 * statistics.median(some) for name, some in times.items()}
    return {"sampler": sampler, "trials": trials, **milliseconds}


def seconds_after(sampler: str, trials: int) -> list[float]:
    """Return the CPU seconds of ask plus tell for five trials after ``trials`` random trials."""
    with tempfile.TemporaryDirectory() as name:
        searcher, rng = Searcher(space(sampler, Path(name)), Path(name)), random.Random(0)
        for _ in range(trials):
            point = searcher.space.draw(rng)
            searcher.tell(searcher._run.add(point, {}), objectives(point))
        run(searcher, 1)
        seconds = run(searcher, 5, time.process_time)
        searcher.close()
        return seconds


def parts() -> dict[str, float]:
    """Return the milliseconds of each part of a trial of random search, medians of 500."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn = space("random", folder)
        searcher = Searcher(drawn, folder)
        point = searcher.ask()[1]
        optunas = JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
        ours = JournalStorage(Journal(folder / "ours.journal"))
        trial = {
            one: one.create_new_trial(one.create_new_study([optuna.study.StudyDirection.MINIMIZE]))
            for one in (ours, optunas)
        }
        with open(folder / "synced", "ab", buffering=0) as file:

            def sync() -> None:
                file.write(b"a line of a journal, as long as most of them are, which is two hundred characters\n")
                os.fsync(file.fileno())

            return {
                "one operation in Optuna's own journal file": _median(
                    lambda: optunas.set_trial_user_attr(trial[optunas], "a", 1)
                ),
                "of that, fsync": _median(sync),
                "one operation in ours": _median(lambda: ours.set_trial_user_attr(trial[ours], "a", 1)),
                "validating the trial and its digest": _median(lambda: drawn.trial_for(point).digest()),
            }


SEARCHED = ("sparsity.target", "sparsity.criterion", "sparsity.ramp.end", "optim.lr", "optim.weight_decay.value")


def stored_objectives(run: str) -> Callable[[Point], list[float]]:
    """Return a function that interpolates the 64 trials of a stored sweep, within their range: accuracy and GFLOPs."""
    from scipy.interpolate import RBFInterpolator

    trials = pandas.read_parquet(ROOT / "docs" / "results" / "early_stopping" / run / "trials.parquet")
    points = [json.loads(params) if isinstance(params, str) else params for params in trials["params"]]
    known = numpy.array([_coordinates(point) for point in points])
    values = numpy.stack([trials["val_top1"], numpy.log10(trials["gflops"])], axis=1)
    low, high = known.min(axis=0), known.max(axis=0)
    smooth = RBFInterpolator((known - low) / (high - low), values, kernel="linear", degree=0, smoothing=0.01)

    def objectives(point: Point) -> list[float]:
        found = smooth((numpy.array([_coordinates(point)]) - low) / (high - low))[0]
        top1, gflops = numpy.clip(found, values.min(axis=0), values.max(axis=0))
        return [float(top1), float(10**gflops)]

    return objectives


def _coordinates(point: Point) -> list[float]:
    target, criterion, end, lr, decay = (point[path] for path in SEARCHED)
    return [-math.log1p(-target), float(criterion == "sigma"), end, math.log(lr), math.log(decay)]


def trade_off(point: Point) -> list[float]:
    """A front that only one value of each of four fields reaches, at any sparsity."""
    target, criterion, end, lr, decay = _coordinates(point)
    off = (end - 0.5 - 0.05 * target) ** 2 * 20 + (lr + 2 + 0.3 * target) ** 2 + 0.1 * (decay + 8) ** 2
    return [95 - 8 / (1 + math.exp(3 - 1.5 * target)) - 2 * off - criterion, math.exp(-target)]


def bound_tpe(bound: int | None) -> None:
    fitted_trials.FITTED = bound or 10**9
    fitted_trials.FRONT, fitted_trials.NEWEST = fitted_trials.FITTED // 10, fitted_trials.FITTED // 2


def fronts(bounds: list[int | None], trials: int, seeds: int) -> Iterator[dict[str, Any]]:
    """Yield the hypervolume of TPE's front after half and all of the trials, with each bound, of each seed.

    Its unit is percent times decades of GFLOPs.
    """
    functions = {"formula": trade_off, **{run: stored_objectives(run) for run in ("cifar10", "30_epochs")}}
    for name, function in functions.items():
        for seed in range(seeds):
            for bound in bounds:
                bound_tpe(bound)
                changes = {"searcher.sampler": "tpe", "seed": str(seed), "budget.trials": str(trials)}
                one = read_space(ROOT / "search_spaces" / "early_stopping_proxy.yaml", changes)
                started = time.process_time()
                with tempfile.TemporaryDirectory() as folder:
                    values = _values(Searcher(one, Path(folder)), trials, function)
                seconds = time.process_time() - started
                points = [(top1, math.log10(gflops)) for top1, gflops in values]
                worst = [10.0, math.log10({"formula": 0.5, "cifar10": 2e-3, "30_epochs": 5e-4}[name])]
                reached = [hypervolume(points[:count], ("max", "min"), worst) for count in (trials // 2, trials)]
                yield {"objectives": name, "bound": bound, "seed": seed, "reached": reached, "seconds": seconds}


def _values(searcher: Searcher, trials: int, function: Callable[[Point], list[float]]) -> list[list[float]]:
    """Run a sweep with four trials at a time; return their values in order."""
    values, running = [], []
    while len(values) < trials:
        while len(running) < 4:
            running.append(searcher.ask())
        number, point = running.pop(0)
        values.append(function(point))
        searcher.tell(number, values[-1])
    return values


def _median(call: Any) -> float:
    seconds = []
    for _ in range(500):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return 1e3 * statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samplers", nargs="+", choices=TRIALS, default=list(TRIALS))
    parser.add_argument("--trials", type=int, help="at most this many trials of each sampler")
    parser.add_argument("--parts", action="store_true", help="measure the parts of random search's time")
    parser.add_argument("--bounds", nargs="+", type=lambda text: None if text == "none" else int(text))
    parser.add_argument("--after", nargs="+", type=int, help="measure a sampler after so many trials")
    parser.add_argument("--seeds", type=int, default=4, help="of each of the --bounds")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.bounds and not arguments.after:
        for row in fronts(arguments.bounds, arguments.trials or 1000, arguments.seeds):
            print(json.dumps(row), flush=True)
        return
    if arguments.after and arguments.bounds:
        bound_tpe(arguments.bounds[0])
    for count in arguments.after or ():
        for sampler in arguments.samplers:
            times = sorted(1e3 * seconds for seconds in seconds_after(sampler, count))
            print(f"{sampler} after {count} trials: {statistics.median(times):.1f} ms, {times}", flush=True)
    if arguments.after:
        return
    versions = {one.__name__: one.__version__ for one in (optuna, numpy, scipy)} | {"python": platform.python_version()}
    counts = {sampler: min(TRIALS[sampler], arguments.trials or TRIALS[sampler]) for sampler in arguments.samplers}
    rows = [] if arguments.parts else [growth(sampler, count) for sampler, count in counts.items()]
    spent = parts() if arguments.parts else {}
    if arguments.json:
        print(json.dumps({"versions": versions, "cores": os.cpu_count(), "samplers": rows, "parts_ms": spent}))
        return
    print(", ".join(f"{name} {version}" for name, version in versions.items()), f"{os.cpu_count()} cores")
    for row in rows:
        times = "  ".join(f"{name} {row[f'{name}_ms']:9.2f} ms" for name in ("first", "middle", "last"))
        print(f"{row['sampler']:<7} {row['trials']:>5} trials  {times}")
    for part, milliseconds in spent.items():
        print(f"{part:<45} {milliseconds:.3f} ms")


if __name__ == "__main__":
    main()
