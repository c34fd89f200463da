"""Measure the engine's overhead: trials of a stub that reports ten epochs at once, in slots without torch.

    python benchmarks/scale.py [--trials 1000] [--slots 16] [--sampler random] [--early-stopping none]

Prints the overhead per trial (wall time; the stub needs none), early against late, by part, and the driver's memory.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import st3sweep.execution  # noqa: F401 (sets Ray's environment before it is imported)  # isort: skip
import ray

from st3sweep.commands.reading import read_space
from st3sweep.execution import driver
from st3sweep.execution.cluster import cluster
from st3sweep.execution.slot import Slot
from st3sweep.reporting.json_events import JsonEvents
from st3sweep.runs import table_rows
from st3sweep.runs.ledger import Ledger
from st3sweep.space.resources import Resources
from st3sweep.sweep.state import Sweep
from st3sweep.util.text import aligned

EPOCHS = 10
SPACE = """\
schema: st3sweep/v1
name: scale
trial:
  model: {{arch: cifar_resnet, depth: 8, width: 4}}
  data: {{dataset: digits, image_size: 8}}
  train: {{epochs: 10, batch_size: 64}}
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

    def _hold_workers(self, config: dict[str, Any]) -> None:  # noqa: ARG002
        finished = 0
        while (taken := ray.get(self._mailbox.take.remote(0, finished))) is not None:
            finished, job = taken
            top1 = 50.0 + 40.0 * (hash(str(job["spec"])) % 1000) / 1000
            for epoch in range(1, EPOCHS + 1):
                record = _record(epoch, top1)
                if ray.get(self._mailbox.report.remote(finished, record)):
                    ray.get(self._mailbox.report.remote(finished, {"status": "stopped"}))
                    break
            else:
                result = {"status": "finished", "best_epoch": EPOCHS, "wall_seconds": 0.0, "test_top1": top1}
                result |= {"val_top1": top1, "gflops": 0.001 * (100 - top1), "gflops_dense": 0.1, "sparsity": 0.9}
                ray.get(self._mailbox.report.remote(finished, result))


def _record(epoch: int, top1: float) -> dict[str, Any]:
    gflops = 0.001 * (100 - top1)
    return {
        "epoch": epoch, "progress": epoch / EPOCHS, "ratio": 0.9, "sparsity": 0.9, "gflops": gflops, "lr": 0.1,
        "weight_decay": 1e-4, "train_loss": 1.0, "val_loss": 1.0, "val_top1": top1 - EPOCHS + epoch,
        "at_target": epoch == EPOCHS, "dead_channels": 0, "flip_rate": 0.0, "mismatch": 0.0, "seconds": 0.0,
    }  # fmt: skip


class Clock:
    """Seconds spent in named functions so far, and their values at each mark."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self.marks: list[tuple[float, dict[str, float]]] = []

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
        self.marks.append((time.perf_counter(), dict(self.spent)))


def main() -> None:
    """Run the benchmark and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--sampler", default="random")
    parser.add_argument("--early-stopping", default="none")
    options = parser.parse_args()
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scale.yaml"
        text = SPACE.format(sampler=options.sampler, trials=options.trials)
        file.write_text(
            text if options.early_stopping == "none" else f"{text}early_stopping: {{name: {options.early_stopping}}}\n"
        )
        (Path(folder) / "run").mkdir()
        run = Sweep(read_space(file), Path(folder) / "run", _Marking(options.trials, clock))
        clock.timed("search", run.searcher, "ask")
        clock.timed("search", run.searcher, "tell")
        clock.timed("early stopping", run.early_stopping, "observe")
        clock.timed("ledger", Ledger, "_append")
        clock.timed("tables", table_rows, "write_tables")
        clock.timed("all of ours", driver.Driver, "_receive")
        clock.timed("all of ours", driver.Driver, "on_step_begin")
        # The slots reserve no CPU: Ray places only their actors and mailboxes.
        with cluster(None, Resources(slots=1)):
            clock.mark()
            driver.run_slots(run, options.slots, trainable=StubSlot)
        size = (Path(folder) / "run" / "ledger.jsonl").stat().st_size
        run.close()
    _print(clock, options.trials, size)


class _Marking(JsonEvents):
    """Progress that shows nothing and marks the clock at the end of every trial."""

    def __init__(self, total: int, clock: Clock):
        super().__init__(total)
        self._clock = clock

    def write(self, event: str, **facts: Any) -> None:  # noqa: ARG002
        if event == "done":
            self._clock.mark()


def _print(clock: Clock, trials: int, ledger_bytes: int) -> None:
    window = min(100, trials // 3)
    # The first trials overlap the start of the slots: the window begins after them.
    early, late = clock.marks[window : 2 * window + 1], clock.marks[-window - 1 :]
    rows = [("ms per trial", f"trials {window}-{2 * window}", f"the last {window}")]
    rows.append(("wall", *(f"{1000 * (w[-1][0] - w[0][0]) / window:.1f}" for w in (early, late))))
    for name in sorted(clock.marks[-1][1]):
        parts = (w[-1][1].get(name, 0) - w[0][1].get(name, 0) for w in (early, late))
        rows.append((name, *(f"{1000 * part / window:.1f}" for part in parts)))
    print(aligned(rows, left=[0]))
    whole = clock.marks[-1][0] - clock.marks[window][0]
    print(f"\nfrom trial {window} to the end: {1000 * whole / (trials - window):.1f} ms per trial")
    print(f"driver: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB at most")
    print(f"ledger: {ledger_bytes / trials / 1000:.2f} kB per trial")


if __name__ == "__main__":
    main()
