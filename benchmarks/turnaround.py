"""Measure the time between two trials: warm slots against a Train run per Tune trial, Ray's documented pattern.

    python benchmarks/turnaround.py [--trials 8] [--pattern-trials 3] [--workers 1]

The same trials, by the same ``fit``, one at a time, in one run on one machine. Prints for each the wall time from the
end of a trial to the start of the next one's first epoch, CPU-seconds per trial and the memory of all processes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

SPACE = """\
schema: st3sweep/v1
name: turnaround
trial:
  model: {{arch: cifar_resnet, depth: 8, width: 8}}
  data: {{dataset: digits, image_size: 16}}
  train: {{epochs: 3, batch_size: 64}}
  sparsity: {{method: st3, target: 0.9}}
search:
  optim.lr: {{float: [0.05, 0.2]}}
searcher: {{sampler: random}}
budget: {{trials: {trials}}}
resources: {{slots: 1, workers: {workers}}}
"""


def main() -> None:
    """Run both competitors and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=8, help="trials in the warm slot")
    parser.add_argument("--pattern-trials", type=int, default=3, help="trials of Ray's pattern, a minute each")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--pattern-in", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.pattern_in:
        _pattern(options.pattern_in, options.workers)
        return
    from st3sweep.util.text import aligned

    with tempfile.TemporaryDirectory() as folder:
        space = Path(folder) / "space.yaml"
        space.write_text(SPACE.format(trials=options.trials, workers=options.workers))
        warm = _measured([sys.executable, "-m", "st3sweep", "run", str(space), "--storage", folder])
        lines = (Path(folder) / "turnaround" / "ledger.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in lines]
        specs = [event["spec"] for event in events if event["event"] == "trial"][: options.pattern_trials]
        pattern = Path(folder) / "pattern"
        pattern.mkdir()
        (pattern / "specs.json").write_text(json.dumps(specs))
        own = [sys.executable, __file__, "--pattern-in", str(pattern), "--workers", str(options.workers)]
        documented = _measured(own)
        rows = [("", "end to next start, s", "CPU-s a trial", "peak memory, MB", "processes")]
        rows.append(("warm slot", *_row(_times_of_sweep(events), warm)))
        rows.append(("a Train run a trial", *_row(_times_of_pattern(pattern), documented)))
    print(aligned(rows, left=[0]))


def _row(times: list[tuple[float, float]], samples: list[dict[str, float]]) -> tuple[str, str, str, str]:
    """Return a table row from ``times``, (start, end) of each trial.

    The first trial includes the startup, so CPU counts from its end.
    """
    gaps = [start - end for (_, end), (start, _) in itertools.pairwise(times)]
    first, last = times[0][1], times[-1][1]
    cpu = [min(samples, key=lambda one: abs(one["time"] - when))["cpu"] for when in (first, last)]
    spread = f"{statistics.median(gaps):.2f} ({min(gaps):.2f} to {max(gaps):.2f})"
    peak = max(samples, key=lambda one: one["memory"])
    return spread, f"{(cpu[1] - cpu[0]) / len(gaps):.1f}", f"{peak['memory'] / 1e6:.0f}", f"{peak['processes']:.0f}"


def _times_of_sweep(events: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """Return (start, end) of each trial: its first epoch began ``seconds`` before its ledger event."""
    starts = {e["trial"]: e["time"] - e["record"]["seconds"] for e in events if _is_first_epoch(e)}
    return [(starts[e["trial"]], e["time"]) for e in events if e["event"] == "done"]


def _is_first_epoch(event: dict[str, Any]) -> bool:
    return bool(event["event"] == "epoch" and event["record"]["epoch"] == 1)


def _times_of_pattern(folder: Path) -> list[tuple[float, float]]:
    return [tuple(json.loads(file.read_text())) for file in sorted(folder.glob("times-*.json"))]


def _measured(command: list[str]) -> list[dict[str, float]]:
    """Run ``command``; sample each second the CPU-seconds used so far and the memory (PSS), children included."""
    samples: list[dict[str, float]] = []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
        used: dict[tuple[int, float], float] = {}
        watching = threading.Thread(target=_watch, args=(running, used, samples))
        watching.start()
        error = running.communicate()[1]
        watching.join()
    if running.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {running.returncode}\n{error}")
    return samples


def _watch(running: subprocess.Popen[str], used: dict[Any, float], samples: list[dict[str, float]]) -> None:
    while running.poll() is None:
        memory, count = 0.0, 0
        for process in family(running.pid):
            try:
                times = process.cpu_times()
                used[process.pid, process.create_time()] = times.user + times.system
                memory += process.memory_full_info().pss
                count += 1
            except psutil.Error:
                continue
        samples.append({"time": time.time(), "cpu": sum(used.values()), "memory": memory, "processes": count})
        time.sleep(1.0)


def family(pid: int) -> list[psutil.Process]:
    """Return the process and all that it has started; none once it has ended."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _pattern(folder: Path, workers: int) -> None:
    """Run Ray's pattern: a Tune function that builds a TorchTrainer per trial, one at a time, and calls ``fit``."""
    import os

    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0"}
    import ray
    from ray import train, tune
    from ray.train.torch import TorchTrainer

    def trainable(config: dict[str, Any]) -> None:
        number = config["number"]
        trainer = TorchTrainer(
            _train_loop,
            train_loop_config={"spec": json.loads((folder / "specs.json").read_text())[number], "number": number,
                               "folder": str(folder)},
            scaling_config=train.ScalingConfig(num_workers=workers, resources_per_worker={"CPU": 1}),
            run_config=train.RunConfig(name=f"train-{number}", storage_path=str(folder / "train")),
        )  # fmt: skip
        trainer.fit()

    ray.init(address="local", num_cpus=workers + 1, logging_level="ERROR", log_to_driver=False)
    count = len(json.loads((folder / "specs.json").read_text()))
    tune.Tuner(
        tune.with_resources(trainable, {"CPU": 0.01}),
        param_space={"number": tune.grid_search(list(range(count)))},
        tune_config=tune.TuneConfig(max_concurrent_trials=1),
        run_config=tune.RunConfig(name="tune", storage_path=str(folder / "tune"), verbose=0),
    ).fit()


def _train_loop(config: dict[str, Any]) -> None:
    import torch
    from ray import train

    from st3sweep.training.components import register_components
    from st3sweep.training.loop import fit
    from st3sweep.training.world import World
    from st3sweep.trial.recipes import resolve

    torch.set_num_threads(1)
    register_components()
    context = train.get_context()
    world = World(context.get_world_rank(), context.get_world_size())
    starts: list[float] = []

    def report(record: dict[str, Any]) -> bool:
        starts.append(time.time() - record["seconds"])
        return False

    fit(resolve(config["spec"]), world, report, Path(config["folder"]) / f"trial-{config['number']}")
    if world.is_main:
        file = Path(config["folder"]) / f"times-{config['number']:03d}.json"
        file.write_text(json.dumps([starts[0], time.time()]))
    train.report({})


if __name__ == "__main__":
    main()
