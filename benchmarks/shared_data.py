"""Measure memory and load time of CIFAR-10 in several processes of one machine: separate copies against shared files.

    python benchmarks/shared_data.py ROOT [--processes 4] [--repeats 3] [--json]

ROOT is a folder like ``data.root``. Memory is the increase of the proportional set size (PSS), in which a page that n
processes map counts 1/n for each, from before loading until every pixel was read. Linux only. Each process finishes its
imports before its clock starts. ``shared`` starts from an empty cache and loads twice: the processes at once,
then one more.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import PIL
import pyarrow
import torch
from turns import facts, seconds_of

from st3sweep import data
from st3sweep.data.batches import train_batches
from st3sweep.data.images import ArrayImages
from st3sweep.trial.data import DataConfig


def one(root: str, own: bool) -> None:
    """Run one process: report ready, load on request, and keep the data until asked to end."""
    asked = cifar10(root)
    torch.set_num_threads(1)
    say({})
    hear()
    before, started = pss(), time.perf_counter()
    splits = asked.load() if own else data.load(asked)
    seconds = time.perf_counter() - started
    for images in (splits.train, splits.validation, splits.test):
        assert isinstance(images, ArrayImages)
        images.pixels.view(-1)[::4096].max()  # touches every page
    say({"seconds": seconds})
    hear()  # until all have read all
    say({"megabytes": (pss() - before) / 1e6})
    hear()  # until all have measured


def say(message: dict[str, float]) -> None:
    print(json.dumps(message), flush=True)


def hear() -> None:
    sys.stdin.readline()


def pss() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("Pss:")).split()[1])


def together(root: str, own: bool, processes: int) -> dict[str, list[float]]:
    """Start ``processes`` together and return the measurements of each."""
    command = [sys.executable, __file__, root, "--only", "own" if own else "shared"]
    started = [subprocess.Popen(command, stdin=-1, stdout=-1, text=True) for _ in range(processes)]
    answers: list[dict[str, float]] = []
    for _ in ("ready", "loaded", "measured"):
        answers += [answer_of(process) for process in started]
        for process in started:
            tell(process)
    for process in started:
        process.wait()
    keys = {key for answer in answers for key in answer}
    return {key: [answer[key] for answer in answers if key in answer] for key in keys}


def answer_of(process: subprocess.Popen[str]) -> dict[str, float]:
    assert process.stdout
    found: dict[str, float] = json.loads(process.stdout.readline())
    return found


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def measure(root: str, processes: int) -> dict[str, float]:
    """Measure one round, from an empty cache."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["ST3SWEEP_CACHE"] = cache
        own, shared = together(root, True, processes), together(root, False, processes)
        later = together(root, False, 1)
        epochs = epoch_seconds(root)
    return {
        "own: MB of all": sum(own["megabytes"]),
        "shared: MB of all": sum(shared["megabytes"]),
        "own: s until the last has loaded": max(own["seconds"]),
        "shared: s until the last has loaded": max(shared["seconds"]),
        "shared: s of one that comes later": later["seconds"][0],
        "own: s of an epoch of batches": epochs["own"],
        "shared: s of an epoch of batches": epochs["shared"],
    }


def epoch_seconds(root: str) -> dict[str, float]:
    """Return the median seconds of five epochs of batches, competitors in turn, without training."""
    asked = cifar10(root)
    fixed = {"seed": 0, "epoch": 1, "batch_size": 128, "rank": 0, "size": 1, "device": "cpu"}

    def epoch(splits: data.Splits) -> None:
        for _ in train_batches(splits, asked, **fixed):
            pass

    splits = {"own": asked.load(), "shared": data.load(asked)}
    found = seconds_of({name: partial(epoch, of) for name, of in splits.items()}, 5)
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def cifar10(root: str) -> DataConfig:
    spec: DataConfig = DataConfig.parse({"dataset": "cifar10", "root": root})
    return spec


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", choices=["own", "shared"], help=argparse.SUPPRESS)  # one process's part
    chosen = parser.parse_args()
    if chosen.only:
        one(chosen.root, chosen.only == "own")
        return
    torch.set_num_threads(1)
    rounds = [measure(chosen.root, chosen.processes) for _ in range(chosen.repeats)]
    ran_on = {**facts("cpu"), "pillow": PIL.__version__, "pyarrow": pyarrow.__version__}
    if chosen.json:
        print(json.dumps({**ran_on, "processes": chosen.processes, "rounds": rounds}))
        return
    print(f"CIFAR-10 in {chosen.processes} processes, {chosen.repeats} rounds: median (lowest to highest)")
    print(", ".join(f"{key} {value}" for key, value in ran_on.items()))
    for key in rounds[0]:
        values = sorted(found[key] for found in rounds)
        print(f"  {key:<40} {statistics.median(values):>9,.4g}  ({values[0]:,.4g} to {values[-1]:,.4g})")


if __name__ == "__main__":
    main()
