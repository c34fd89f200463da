"""What a person sees while a sweep runs: a table that updates on a terminal, plain lines when piped."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from st3sweep.recipes import resolve
from st3sweep.sweep.ledger import Trial

LINE_INTERVAL_SECONDS = 15.0  # between plain lines of one trial's epochs
RECENT = 8  # finished trials that the table keeps in sight


class Progress:
    """Told of every trial that starts, every epoch and every end. ``total`` trials are expected, if known."""

    def __init__(self, total: int | None, console: Console | None = None):
        self.console = console or Console(highlight=False)
        self.total = total
        self.done_count = self.failed_count = 0
        self.began = time.monotonic()
        self._running: dict[int, tuple[Trial, dict[str, Any]]] = {}
        self._recent: list[Trial] = []
        self._last_line: dict[int, float] = {}
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self._live = Live(get_renderable=self._table, console=self.console, refresh_per_second=2)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """A line of its own."""
        self.console.print(text, soft_wrap=True)

    def resumed(self, ended: list[Trial]) -> None:
        """Trials of an earlier process count toward the total."""
        self.done_count += len(ended)
        self.failed_count += sum(trial.status == "failed" for trial in ended)
        self._recent = ended[-RECENT:]

    def started(self, trial: Trial) -> None:
        self._running[trial.number] = (trial, trial.epochs[max(trial.epochs)] if trial.epochs else {})
        self._last_line[trial.number] = time.monotonic()

    def epoch(self, trial: Trial, record: dict[str, Any]) -> None:
        self._running[trial.number] = (trial, record)
        if self._live is None and time.monotonic() - self._last_line.get(trial.number, 0) >= LINE_INTERVAL_SECONDS:
            self._last_line[trial.number] = time.monotonic()
            self.say("         " + "  ".join(_cells(trial, record)))

    def done(self, trial: Trial) -> None:
        self._running.pop(trial.number, None)
        self.done_count += 1
        self.failed_count += trial.status == "failed"
        self._recent = [*self._recent, trial][-RECENT:]
        if self._live is None:
            width = len(str(self.total or 999))
            count = f"[{self.done_count:>{width}}/{self.total or '?'}]"
            self.say(f"{count:<8} " + "  ".join(_cells(trial, trial.result)))

    def _table(self) -> Group:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for name in ("trial", "method", "sparsity", "epoch", "val top-1", "cost", ""):
            table.add_column(name, justify="left" if name in ("method", "") else "right", no_wrap=True)
        for trial in self._recent:
            style = "red" if trial.status == "failed" else "dim"
            table.add_row(*_cells(trial, trial.result), style=style)
        for trial, record in self._running.values():
            table.add_row(*_cells(trial, record))
        failed = f", {self.failed_count} failed" if self.failed_count else ""
        head = f"{self.done_count} of {self.total or '?'} trials done{failed} · {_clock(time.monotonic() - self.began)}"
        waiting = "" if any(record for _, record in self._running.values()) or self._recent else " · starting workers"
        return Group(Text(head + waiting, style="bold"), table)


def _cells(trial: Trial, record: dict[str, Any]) -> list[str]:
    """One trial as cells of fixed width: the same for the table and for plain lines."""
    number = f"trial {trial.number:>3}"
    if trial.status == "failed":
        return [number, f"failed: {trial.error}"]
    spec = resolve(trial.spec)
    total = spec.train.epochs + spec.train.finetune_epochs
    target = format_flops(spec.gflops.target) if spec.gflops else f"{100 * (spec.sparsity.target or 0):5.1f} %"
    now = record.get("sparsity")
    if trial.status == "running":
        sparsity = f"{100 * now:5.1f} → {target}" if now is not None else f"  0.0 → {target}"
        epoch = f"epoch {len(trial.epochs)}/{total}"
    else:
        sparsity = f"{100 * now:5.1f} %" if now is not None else target
        epoch = f"{trial.result.get('wall_seconds', 0):.1f} s"
    accuracy = f"{record['val_top1']:6.2f} %" if "val_top1" in record else ""
    cost = format_flops(record["gflops"]) if "gflops" in record else ""
    return [number, f"{spec.sparsity.label:<5}", f"{sparsity:>15}", f"{epoch:>12}", f"{accuracy:>8}", f"{cost:>12}"]


def format_flops(gflops: float) -> str:
    """A cost in the unit that suits its size."""
    return f"{gflops:.3g} GFLOPs" if gflops >= 0.1 else f"{1000 * gflops:.3g} MFLOPs"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
