"""Measure the engine's overhead: trials of a stub that reports its epochs at once, in slots without torch.

    python benchmarks/scale.py [--trials 1000] [--epochs 30] [--slots 16] [--sampler random] [--early-stopping none]
                               [--folder FOLDER]

Prints the overhead per trial (wall time; the stub needs none), early against late, by part; the processor time of each
kind of process; the driver's memory; the bytes of the run's files; and how long its resume and the commands status,
results and pareto take afterwards. The run stays in FOLDER, if given.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import st3sweep.execution  # noqa: F401 (sets Ray's environment before it is imported)  # isort: skip
import psutil
import ray
from turnaround import family

from st3sweep.commands.reading import read_space
from st3sweep.execution import driver
from st3sweep.execution.cluster import cluster
from st3sweep.execution.reporter import Reporter
from st3sweep.execution.slot import Slot
from st3sweep.reporting.json_events import JsonEvents
from st3sweep.runs.folder import write_resolved
from st3sweep.runs.ledger import Ledger
from st3sweep.runs.table_rows import RunTables
from st3sweep.space.resources import Resources
from st3sweep.sweep.state import Sweep
from st3sweep.util.text import aligned

SPACE = """\
schema: st3sweep/v1
name: scale
trial:
  model: {{arch: cifar_resnet, depth: 8, width: 4}}
  data: {{dataset: digits, image_size: 8}}
  train: {{epochs: {epochs}, batch_size: 64}}
  sparsity: {{method: st3}}
search:
  sparsity.target: {{float: [0.5, 0.98], scale: log1m}}
  optim.lr: {{float: [0.01, 1.0], scale: log}}
  optim.momentum: {{float: [0.5, 0.99]}}
searcher: {{sampler: {sampler}}}
budget: {{trials: {trials}}}
"""


class StubSlot(Slot):
    """A slot whose workers are one thread that trains nothing."""

    def _hold_workers(self) -> None:
        ray.get(self._mailbox.enter.remote(0, b""))
        finished = 0
        reporter = Reporter(lambda number, messages: ray.get(self._mailbox.report.remote(number, messages)))
        while (taken := ray.get(self._mailbox.take.remote(0, finished))) is not None:
            finished, job = taken
            reporter.start(finished)
            epochs = job["spec"]["train"]["epochs"]
            top1 = 50.0 + 40.0 * (hash(str(job["spec"])) % 1000) / 1000
            for epoch in range(1, epochs + 1):
                record = _record(epoch, epochs, top1)
                if reporter.report(record):
                    reporter.report({"status": "stopped"})
                    break
            else:
                result = {"status": "finished", "best_epoch": epochs, "wall_seconds": 0.0, "test_top1": top1}
                result |= {"val_top1": top1, "gflops": 0.001 * (100 - top1), "gflops_dense": 0.1, "sparsity": 0.9}
                reporter.report(result)


def _record(epoch: int, epochs: int, top1: float) -> dict[str, Any]:
    gflops = 0.001 * (100 - top1)
    return {
        "epoch": epoch, "progress": epoch / epochs, "ramp_progress": min(1.0, 2 * epoch / epochs), "ratio": 0.9,
        "sparsity": 0.9, "gflops": gflops, "gflops_final": gflops, "lr": 0.1,
        "weight_decay": 1e-4, "train_loss": 1.0, "val_loss": 1.0, "val_top1": top1 - epochs + epoch,
        "at_target": epoch == epochs, "dead_channels": 0, "flip_rate": 0.0, "mismatch": 0.0, "seconds": 0.0,
    }  # fmt: skip


class Clock:
    """Seconds spent in named functions so far, memory of this process, and their values at each mark.

    At the marks of the numbers ``at``, ``processes`` gets the processor seconds of each kind of process.
    """

    def __init__(self, at: tuple[int, ...]) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self.marks: list[tuple[float, dict[str, float], int]] = []
        self.processes: list[dict[str, float]] = []
        self._at = at

    def timed(self, name: str, owner: Any, attribute: str) -> None:
        inner: Callable[..., Any] = getattr(owner, attribute)

        def outer(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                self.spent[name] += time.perf_counter() - began

        setattr(owner, attribute, outer)

    def mark(self) -> None:
        self.marks.append((time.perf_counter(), dict(self.spent), memory()))
        if len(self.marks) in self._at:
            self.processes.append(processor_seconds())


def memory() -> int:
    """Return the bytes of memory that this process holds now, without what it shares with others."""
    pages, shared = map(int, Path("/proc/self/statm").read_text().split()[1:3])
    return (pages - shared) * resource.getpagesize()


def processor_seconds() -> dict[str, float]:
    """Return the processor seconds so far of the driver, slots, mailboxes, and Ray's other processes."""
    used: dict[str, float] = defaultdict(float)
    for process in family(os.getpid()):
        with contextlib.suppress(psutil.Error):
            title = process.cmdline()[0]
            kind = {"ray::Mailbox": "mailboxes", "ray::StubSlot": "slots"}.get(title.split(".")[0], "Ray's others")
            times = process.cpu_times()
            used["driver" if process.pid == os.getpid() else kind] += times.user + times.system
    return used


def main() -> None:
    """Run the benchmark and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--sampler", default="random")
    parser.add_argument("--early-stopping", default="none")
    parser.add_argument("--folder", type=Path, help="where the run stays; must not exist")
    options = parser.parse_args()
    with contextlib.ExitStack() as to_close:
        folder = options.folder or Path(to_close.enter_context(tempfile.TemporaryDirectory())) / "scale"
        (folder / "run").mkdir(parents=True)
        text = SPACE.format(sampler=options.sampler, trials=options.trials, epochs=options.epochs)
        if options.early_stopping != "none":
            text += f"early_stopping: {{name: {options.early_stopping}}}\n"
        (folder / "scale.yaml").write_text(text)
        _print_run(_measured_run(folder, options), options.trials, options.slots)
        _print_afterwards(folder, options.trials)


def _measured_run(folder: Path, options: argparse.Namespace) -> Clock:
    # The slots end when no trial is left to take.
    clock = Clock(at=(_window(options.trials) + 1, options.trials - options.slots + 1))
    space = read_space(folder / "scale.yaml")
    write_resolved(folder / "run", space.document.data)
    run = Sweep(space, folder / "run", _Marking(options.trials, clock))
    clock.timed("search", run.searcher, "ask")
    clock.timed("search", run.searcher, "tell")
    clock.timed("early stopping", run.early_stopping, "observe")
    clock.timed("ledger", Ledger, "_append")
    clock.timed("tables", RunTables, "_write")
    clock.timed("all of ours", driver.Driver, "_receive")
    clock.timed("all of ours", driver.Driver, "on_step_begin")
    # The slots reserve no CPU: Ray places only their actors and mailboxes.
    with cluster(None, Resources(slots=1)):
        clock.mark()
        driver.run_slots(run, options.slots, trainable=StubSlot)
    began = time.perf_counter()
    run.close()
    print(f"tables compacted in {time.perf_counter() - began:.2f} s")
    return clock


class _Marking(JsonEvents):
    """Progress that shows nothing and marks the clock at the end of every trial."""

    def __init__(self, total: int, clock: Clock):
        super().__init__(total)
        self._clock = clock

    def write(self, event: str, **facts: Any) -> None:  # noqa: ARG002
        if event == "done":
            self._clock.mark()


def _window(trials: int) -> int:
    return min(1000, trials // 3)


def _print_run(clock: Clock, trials: int, slots: int) -> None:
    window = _window(trials)
    # The first trials overlap the start of the slots: the early window begins after them.
    early, late = clock.marks[window : 2 * window + 1], clock.marks[-window - 1 :]
    rows = [("ms per trial", f"trials {window}-{2 * window}", f"the last {window}")]
    rows.append(("wall", *(f"{1000 * (w[-1][0] - w[0][0]) / window:.1f}" for w in (early, late))))
    for name in sorted(clock.marks[-1][1]):
        parts = (w[-1][1].get(name, 0) - w[0][1].get(name, 0) for w in (early, late))
        rows.append((name, *(f"{1000 * part / window:.1f}" for part in parts)))
    print(aligned(rows, left=[0]))
    whole = clock.marks[-1][0] - clock.marks[window][0]
    print(f"\nfrom trial {window} to the end: {1000 * whole / (trials - window):.1f} ms per trial")
    first_used, used = clock.processes
    ended = trials - slots - window
    spent = {kind: 1000 * (seconds - first_used[kind]) / ended for kind, seconds in sorted(used.items())}
    print("processor ms per trial: " + ", ".join(f"{kind} {milliseconds:.1f}" for kind, milliseconds in spent.items()))
    start, first, end = clock.marks[0][2], clock.marks[min(100, window)][2], clock.marks[-1][2]
    megabytes = [f"{value / 1e6:.0f}" for value in (start, first, end)]
    print("driver: {} MB before the first trial, {} MB after 100, {} MB at the end".format(*megabytes))
    beyond = [f"{(end - begin) / trials / 1e3:.1f}" for begin in (start, first)]
    print("driver, kB per trial: {} beyond the start, {} beyond trial 100".format(*beyond))


RESUME = """\
import io, sys, time
from pathlib import Path
import st3sweep.execution
from st3sweep.commands.reading import read_space
from st3sweep.reporting.json_events import JsonEvents
from st3sweep.sweep.state import Sweep
folder = Path(sys.argv[1])
space = read_space(folder / "scale.yaml")
began = time.perf_counter()
run = Sweep(space, folder / "run", JsonEvents(1, io.StringIO()))
run.checkpoints.all_ended()
run.progress.resumed(list(run.ledger.trials.values()))
print(f"{time.perf_counter() - began:.2f} s to the first work of its {len(run.ledger.trials)}")
"""


def _print_afterwards(folder: Path, trials: int) -> None:
    """Time what users do with the run, each in a program of its own, its start included."""
    sizes: dict[str, int] = defaultdict(int)
    for path in (folder / "run").rglob("*"):
        if path.is_file() and path.relative_to(folder / "run").parts[0] not in ("ray", "trials"):
            sizes[path.relative_to(folder / "run").parts[0]] += path.stat().st_size
    print("kB per trial: " + ", ".join(f"{name} {size / trials / 1e3:.2f}" for name, size in sorted(sizes.items())))
    done = subprocess.run([sys.executable, "-c", RESUME, str(folder)], check=True, capture_output=True, text=True)
    print(f"resume, its imports not included: {done.stdout.strip()} trials")
    for command in ("status", "results", "pareto"):
        began = time.perf_counter()
        words = [sys.executable, "-m", "st3sweep", command, str(folder / "run")]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        print(f"{command}: {time.perf_counter() - began:.2f} s")


if __name__ == "__main__":
    main()
