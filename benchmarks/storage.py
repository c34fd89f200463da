"""Measure what a slow object store adds to a sweep: 200 ms before each answer.

    PYTHONPATH=tests:tests/unit python benchmarks/storage.py [--latency 0.2] [--slots 4] [--trials 8] [--epochs 15]
                                                             [--seconds 2] [--megabytes 20]

Slots train nothing: an epoch is a pause of ``--seconds``, after which checkpoints of ``--megabytes`` are written, as by
a worker, and the epoch is recorded, as by the driver. The sweep runs once in a folder and once in the store (moto's
server, a process on this machine). Prints how long both take, how long slots waited, and the share that is in a sweep
with epochs of a minute. Needs the extra dev.
"""

from __future__ import annotations

import argparse
import heapq
import os
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from driven_sweep import epoch, result
from object_store import ObjectStore

from st3sweep.commands.stored import kept_in_store
from st3sweep.reporting.json_events import JsonEvents
from st3sweep.runs.folder import new_run, trial_folder
from st3sweep.space.loading import load_space
from st3sweep.space.space import Space
from st3sweep.sweep.state import Sweep
from st3sweep.training.checkpoint_files import BEST, LAST
from st3sweep.training.components import register_components
from st3sweep.util.storage.atomic import atomic_write

SPACE = """\
schema: st3sweep/v1
name: storage
trial:
  model: {{arch: cifar_resnet, depth: 8, width: 4}}
  data: {{dataset: digits, image_size: 8}}
  train: {{epochs: {epochs}, batch_size: 64}}
  sparsity: {{method: st3}}
search:
  sparsity.target: {{float: [0.5, 0.98], scale: log1m}}
  optim.lr: {{float: [0.01, 1.0], scale: log}}
searcher: {{sampler: random}}
budget: {{trials: {trials}}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--megabytes", type=int, default=20)
    args = parser.parse_args()
    register_components()
    server = ObjectStore()
    os.environ.update(server.environment())
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ST3SWEEP_CACHE"] = str(Path(folder) / "cache")
        file = Path(folder) / "space.yaml"
        file.write_text(SPACE.format(epochs=args.epochs, trials=args.trials))
        space = load_space(file)
        bucket = server.make_bucket("benchmark")
        server.faults(latency=args.latency)
        rows = [_measured(space, args, Path(folder) / "runs"), _measured(space, args, Path(bucket) / "runs")]
        requests = sum(server.requests().values())
    server.close()
    print(f"latency {args.latency} s, {args.slots} slots, epochs of {args.seconds} s, {args.megabytes} MB a checkpoint")
    for name, row in zip(("folder", "store"), rows, strict=True):
        print(name, "  ".join(f"{key} {value:.4f}" for key, value in row.items()))
    count, sweep_minutes = args.trials * args.epochs, args.trials * args.epochs / args.slots
    waits = rows[1]["waited_per_epoch"] - rows[0]["waited_per_epoch"]
    added = rows[1]["start"] - rows[0]["start"] + rows[1]["end"] - rows[0]["end"]
    print(f"requests {requests}, {requests / count:.1f} an epoch")
    print(f"added to an epoch {1000 * waits:.1f} ms: {100 * waits / 60:.3f} % of a minute")
    print(f"added at start and end {added:.1f} s: {100 * added / (60 * sweep_minutes):.2f} % of the sweep with minutes")


def _measured(space: Space, args: argparse.Namespace, storage: Path) -> dict[str, float]:
    began = time.perf_counter()
    folder = new_run("storage", space.document.data, space.document.text, storage, None)
    context: AbstractContextManager[Any] = (
        kept_in_store(folder, checkpoints=True) if ":/" in str(storage) else nullcontext()
    )
    content, waited = os.urandom(args.megabytes << 20), 0.0
    with context as keep_only, open(os.devnull, "w") as events:
        sweep = Sweep(space, folder, JsonEvents(None, events), None, (), keep_only)
        started = time.perf_counter()
        due = [(started, slot, None) for slot in range(args.slots)]
        while due:
            when, slot, trial = heapq.heappop(due)
            time.sleep(max(when - time.perf_counter(), 0.0))
            before = time.perf_counter()
            if trial is not None:
                number = len(trial.epochs) + 1
                for name in (BEST, LAST):
                    with atomic_write(trial_folder(folder, trial.number) / name) as file:
                        file.write(content)
                sweep.record(trial.number, epoch(trial, number))
                if number == args.epochs:
                    sweep.record(trial.number, result(trial))
                    trial = None
            if trial is None and (trial := sweep.next_trial()) is not None:
                trial_folder(folder, trial.number).mkdir(parents=True, exist_ok=True)
            now = time.perf_counter()
            waited += now - before
            if trial is not None:
                heapq.heappush(due, (now + args.seconds, slot, trial))
        ended = time.perf_counter()
        sweep.close()
    end = time.perf_counter()
    return {
        "start": started - began, "sweep": ended - started, "end": end - ended,
        "waited_per_epoch": waited / (args.trials * args.epochs),
    }  # fmt: skip


if __name__ == "__main__":
    main()
