"""Print the timeline of a sweep's start and end, and what each of its processes spends.

    python benchmarks/start.py [--workers 1] [--slots 1] [--runs 1] [--resume]

Runs two trials of the quickstart's network as a sweep. Prints when each process appeared, when the first epoch ended,
when the front was printed and when the program had ended, and the CPU-seconds of every process until the first epoch.
With --resume the same of a second program, which resumes the run with two more trials.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
from turnaround import family

SPACE = """\
schema: st3sweep/v1
name: start
trial:
  model: {{arch: cifar_resnet, depth: 8, width: 16}}
  data: {{dataset: digits, image_size: 8}}
  train: {{epochs: 3, batch_size: 64}}
  sparsity: {{method: st3}}
search:
  sparsity.target: {{float: [0.5, 0.9]}}
searcher: {{sampler: random}}
budget: {{trials: 2}}
resources: {{slots: {slots}, workers: {workers}, cpus_per_worker: 1}}
"""


def main() -> None:
    """Time the start, once or several times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1, help="of a trial")
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "space.yaml").write_text(SPACE.format(slots=options.slots, workers=options.workers))
            _timed(Path(folder), "run", str(Path(folder) / "space.yaml"), "--storage", folder)
            if options.resume:
                _timed(Path(folder), "resume", str(Path(folder) / "start"), "--trials", "+2")


def _timed(folder: Path, *words: str) -> None:
    from st3sweep.util.text import aligned

    command = [sys.executable, "-m", "st3sweep", *words]
    print(words[0])
    began = time.time()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        seen: dict[int, tuple[str, float]] = {}
        at_first_epoch: dict[int, float] = {}
        watching = threading.Thread(
            target=_watch, args=(running, folder / "start" / "ledger.jsonl", began, seen, at_first_epoch)
        )
        watching.start()
        assert running.stdout is not None
        printed = {}
        for line in running.stdout:
            if line.startswith("Pareto front"):
                printed["front printed"] = time.time()
        watching.join()
    if running.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {running.returncode}")
    ended = time.time()
    rows = [("process", "starts at, s", "CPU-s until the first epoch")]
    for pid, (name, start) in sorted(seen.items(), key=lambda item: item[1][1]):
        if at_first_epoch.get(pid, 0.0) >= 0.1:
            rows.append((name, f"{start - began:.1f}", f"{at_first_epoch[pid]:.1f}"))
    rows.append(("all", "", f"{sum(at_first_epoch.values()):.1f}"))
    print(aligned(rows, left=[0]))
    events = _events(folder / "start" / "ledger.jsonl", began)
    first = next(event for event in events if event["event"] == "epoch")
    last = [event for event in events if event["event"] == "done"][-1]["time"]
    moments = {
        "first epoch begins": first["time"] - first["record"]["seconds"] - began,
        "first epoch ends": first["time"] - began,
        "last trial ends": last - began,
        "front printed, after that": printed["front printed"] - last,
        "program ended, after that": ended - last,
    }
    print("\n" + aligned([(name, f"{seconds:.1f} s") for name, seconds in moments.items()], left=[0]) + "\n")


def _events(ledger: Path, began: float) -> list[dict[str, Any]]:
    """Return the events that the program of time ``began`` has recorded."""
    lines = ledger.read_text().splitlines(keepends=True) if ledger.exists() else []
    events = (json.loads(line) for line in lines if line.endswith("\n"))
    return [event for event in events if event["time"] >= began]


def _watch(
    running: subprocess.Popen[str],
    ledger: Path,
    began: float,
    seen: dict[int, tuple[str, float]],
    used: dict[int, float],
) -> None:
    while running.poll() is None:
        trained = any(event["event"] == "epoch" for event in _events(ledger, began))
        for process in family(running.pid):
            try:
                seen[process.pid] = (_name(process, running.pid), process.create_time())
                times = process.cpu_times()
                used[process.pid] = times.user + times.system
            except psutil.Error:
                continue
        if trained:
            return
        time.sleep(0.1)


def _name(process: psutil.Process, main: int) -> str:
    """Return a short name: a Ray actor's title, a script's file name, or the program's."""
    words: list[Any] = process.cmdline()
    if process.pid == main:
        return "the program"
    line = " ".join(words)
    if line.startswith("ray::"):
        return line.split("(")[0][:40]
    if "-m" in words:
        return str(words[words.index("-m") + 1])
    return next((Path(word).name for word in words if word.endswith(".py")), Path(words[0]).name if words else "?")


if __name__ == "__main__":
    main()
