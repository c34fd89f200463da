"""Show a running sweep: a table that updates on a terminal, plain lines when piped."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from st3sweep.pareto import Goal, pareto_mask
from st3sweep.reporting.console import print_line
from st3sweep.runs.ledger import Trial
from st3sweep.runs.tables import shown_by
from st3sweep.util.text import counted, format_flops

LINE_INTERVAL_SECONDS = 15.0  # between plain lines of one trial's epochs
RECENT = 6  # ended trials that the table shows
FRONT = 8  # members of the front that it shows
_COLUMNS = ("trial", "method", "sparsity", "trained", "val top-1", "cost")
_RUNNING = ("rung", "s/epoch", "left")  # further columns for running trials
_UNITS = {"wall": "", "gpu_hours": "GPU-hours", "money": "in money"}

Spent = dict[str, tuple[float, float | None]]  # name of a limit: (spent, limit)


class LiveTable:
    """Table of running trials, ended trials and the front. ``total`` trials are expected, if known.

    The front is of validation accuracy and gflops, or of an own metric of the model where that is among ``objectives``.

    On a terminal a thread of ``Live`` draws the table at the same time: collections that it iterates over are replaced
    whole, or copied.
    """

    def __init__(self, total: int | None, console: Console | None = None, objectives: Sequence[tuple[str, Goal]] = ()):
        self.console = console or Console(highlight=False)
        self.total = total
        self.objectives = shown_by(objectives)
        self.counts = {"finished": 0, "stopped": 0, "failed": 0}
        self.began = time.monotonic()
        self._running: dict[int, tuple[Trial, dict[str, Any], int | None]] = {}
        self.replicates = 0  # number that are over
        self.front: list[Trial] = []  # of the search, cheapest first
        self._recent: list[Trial] = []
        self._heard = False  # whether a trial has reported since the start
        self._epochs = 0  # trained since the start
        self._epochs_of_ended: list[int] = []
        self._spent: Spent = {}
        self._measured = ""
        self._last_line: dict[int, float] = {}
        self._live: Live | None = None

    def __enter__(self) -> LiveTable:
        if self.console.is_terminal:
            self._live = Live(get_renderable=self.table, console=self.console, refresh_per_second=2)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """Print a line."""
        print_line(self.console, text)

    def resumed(self, ended: Iterable[Trial]) -> None:
        """Count the ended trials of an earlier process toward the total."""
        ended = list(ended)
        for trial in ended:
            self._count(trial)
        self._add_to_front(ended)

    def started(self, trial: Trial) -> None:
        """Show a trial that a slot now has."""
        self._running[trial.number] = (trial, trial.last_epoch, None)
        self._last_line[trial.number] = time.monotonic()

    def epoch(self, trial: Trial, record: dict[str, Any], rung: int | None = None) -> None:
        """Show the epoch that a trial has ended; ``rung`` is the last rung of early stopping that it reached."""
        self._running[trial.number] = (trial, record, rung)
        self._epochs += 1
        self._heard = True
        if self._live is None and time.monotonic() - self._last_line.get(trial.number, 0) >= LINE_INTERVAL_SECONDS:
            self._last_line[trial.number] = time.monotonic()
            self.say("         " + _line(trial, record))

    def done(self, trial: Trial) -> None:
        """Show that a trial has finished, was stopped early, or failed."""
        self._running.pop(trial.number, None)
        self._heard = True
        self._count(trial)
        self._add_to_front([trial])
        if self._live is None:
            self.say(f"{self._place(trial):<8} {_line(trial, trial.result)}")

    def requeue(self, trial: Trial) -> None:
        """Remove a trial that is no longer in a slot but not over."""
        self._running.pop(trial.number, None)

    def measured(self, trial: Trial, done: int, of: int) -> None:
        """Show that a finished trial was measured, ``done`` of those ``of`` which are to be."""
        self._measured = f"{done} of {of} measured"
        if self._live is None:
            latency, disturbed = trial.result.get("latency_ms"), trial.result.get("latency_disturbed")
            took = f"{latency:.3g} ms{', disturbed' if disturbed else ''}" if latency is not None else "no latency"
            self.say(f"[{done:>{len(str(of))}}/{of}] trial {trial.number:>3}  {took}")

    def budget(self, spent: Spent) -> None:
        """Show how much of the budget's limits is spent."""
        self._spent = spent

    def _place(self, trial: Trial) -> str:
        """Return how many of the search's trials are over; for a replicate, the trial that it repeats."""
        if trial.replicate_of is not None:
            return f"(as {trial.replicate_of})"
        return f"[{self.done_count:>{len(str(self.total))}}/{self.total}]" if self.total else f"[{self.done_count}]"

    @property
    def done_count(self) -> int:
        """Return how many trials of the search are over."""
        return sum(self.counts.values())

    def _count(self, trial: Trial) -> None:
        self._recent = [*self._recent[1 - RECENT :], trial]
        if trial.is_replicate:
            self.replicates += 1
            return  # the total does not count replicates
        self.counts[trial.status] += 1
        if trial.epochs:  # a reused result has none
            self._epochs_of_ended.append(len(trial.epochs))

    def _add_to_front(self, trials: list[Trial]) -> None:
        if new := [trial for trial in trials if trial.may_be_on_front]:
            candidates = [*self.front, *new]
            points = [[trial.result.get(column, math.nan) for column, _ in self.objectives] for trial in candidates]
            mask = pareto_mask(points, [goal for _, goal in self.objectives])
            front = [one for one, on_front in zip(candidates, mask, strict=True) if on_front]
            self.front = sorted(front, key=lambda t: t.result["gflops"])

    def seconds_left(self) -> float | None:
        """Estimate the time left from the epochs trained so far and those to come; None before there are any."""
        if not self._epochs or self.total is None:
            return None
        running = [trial for trial, _, _ in list(self._running.values())]
        to_come: float = sum(max(0, _epochs_of(trial) - len(trial.epochs)) for trial in running)
        lengths = self._epochs_of_ended or [_epochs_of(trial) for trial in running]
        waiting = max(0, self.total - self.done_count - len(running))
        to_come += waiting * sum(lengths) / len(lengths) if lengths else 0
        return to_come * (time.monotonic() - self.began) / self._epochs

    def head(self, *, clock: bool = True) -> str:
        """Return one line: trials, budget, and with ``clock`` the elapsed and remaining time."""
        of = f"{self.done_count} of {counted(self.total, 'trial')}" if self.total else counted(self.done_count, "trial")
        parts = [f"{of} done"]
        parts[0] += "".join(f", {self.counts[name]} {name}" for name in ("stopped", "failed") if self.counts[name])
        if self.replicates:
            parts.append(f"{counted(self.replicates, 'replicate')} done")
        if clock:
            parts.append(_clock(time.monotonic() - self.began))
        parts += [_of_budget(name, *spent) for name, spent in self._spent.items() if spent[1] is not None]
        if self._measured:
            parts.append(self._measured)
        if left := self.seconds_left():
            parts.append(f"about {_clock(left)} left")
        elif clock and not self._heard:
            parts.append("starting workers")
        return " · ".join(parts)

    def table(self, *, clock: bool = True) -> Group:
        """Return the head, recently ended trials, running trials, and the front."""
        running, recent, front = list(self._running.values()), self._recent, self.front
        failed = [trial for trial in recent if trial.status == "failed"]
        ended = [_facts(trial, trial.result) for trial in recent if trial not in failed]
        active = [
            [*_facts(trial, record), "" if rung is None else str(rung), *_speed(trial)]
            for trial, record, rung in running
        ]
        names = [*_COLUMNS, *(_RUNNING if running else ())]
        kept = _fitting(names, [*ended, *active], self.console.width)
        table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
        for place in kept:
            table.add_column(names[place], justify="left" if names[place] == "method" else "right", no_wrap=True)
        for rows, style in ((ended, "dim"), (active, "")):
            for row in rows:
                table.add_row(*(Text(row[place] if place < len(row) else "") for place in kept), style=style)
        parts: list[Any] = [Text(self.head(clock=clock), style="bold"), *([table] if table.rows else [])]
        parts += [Text(_line(trial, {}), style="red", no_wrap=True, overflow="ellipsis") for trial in failed]
        if front:
            over = self.total is not None and self.done_count >= self.total
            parts += [
                Text("\nfront" if over else "\nfront so far", style="bold"),
                _front_table(front, self.console.width, self.objectives),
            ]
        return Group(*parts)


def _fitting(names: list[str], rows: list[list[str]], width: int) -> list[int]:
    """Return the places of the columns that fit into ``width``: the least important go first, never the accuracy."""
    widths = [
        max([len(name), *(len(row[place]) for row in rows if place < len(row))]) for place, name in enumerate(names)
    ]
    kept = list(range(len(names)))
    for name in ("left", "s/epoch", "rung", "cost", "trained", "sparsity"):
        if sum(widths[place] + 1 for place in kept) <= width:
            break
        kept = [place for place in kept if names[place] != name]
    return kept


def _front_table(front: list[Trial], width: int, objectives: Sequence[tuple[str, Goal]]) -> Table:
    measure = next(column for column, _ in objectives if column != "gflops")
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    rows = []
    for trial in front if len(front) <= FRONT else _spread(front, FRONT):
        result = trial.result
        sparsity = f"{100 * result['sparsity']:.1f} % sparse"
        value = result[measure]
        reached = f"{value:.2f} %" if measure == "val_top1" else f"{measure.removeprefix('val_')} {value:.4g}"
        rows.append([f"{trial.number}", reached, format_flops(result["gflops"]), sparsity])
    widths = [max(map(len, column)) + 2 for column in zip(*rows, strict=True)]
    count = next(count for count in (4, 3, 2) if count == 2 or sum(widths[:count]) <= width)
    for _ in range(count):
        table.add_column(justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row[:count])
    return table


def _spread(front: list[Trial], count: int) -> list[Trial]:
    """Return ``count`` members spread over the whole front, both ends included."""
    last = len(front) - 1
    return [front[round(index * last / (count - 1))] for index in range(count)]


def _epochs_of(trial: Trial) -> int:
    return trial.summary.epochs if trial.summary else 0


def _speed(trial: Trial) -> tuple[str, str]:
    """Return seconds per epoch, and the time until the trial's end."""
    if not trial.epochs:
        return "", ""
    lately = [trial.epochs[epoch]["seconds"] for epoch in sorted(trial.epochs)[-3:]]
    speed = sum(lately) / len(lately)
    return f"{speed:.3g}", _clock(speed * max(0, _epochs_of(trial) - len(trial.epochs)))


def _of_budget(name: str, spent: float, limit: float | None) -> str:
    if name == "wall":
        return f"{_clock(spent)} of {_clock(limit or 0)} wall time"
    return f"{spent:.2f} of {limit:g} {_UNITS[name]}"


def _facts(trial: Trial, record: dict[str, Any]) -> list[str]:
    """Return number, method, sparsity, epochs or time, accuracy and cost of a trial; why it failed, if it did."""
    if trial.status == "failed":
        return [str(trial.number), f"failed: {trial.error}"]
    number = str(trial.number) if trial.replicate_of is None else f"{trial.number} as {trial.replicate_of}"
    assert trial.summary is not None, "only failed trials have no settings"
    budget, asked = trial.summary.gflops_target, trial.summary.sparsity_target
    target = format_flops(budget) if budget else f"{100 * (asked or 0):.1f} %"
    if trial.status == "stopped" and trial.epochs:
        record = trial.last_epoch  # its result describes the training only
    now = record.get("sparsity")
    if trial.status == "finished":
        sparsity = f"{100 * now:.1f} %" if now is not None else target
        epoch = f"{trial.result.get('wall_seconds', 0):.1f} s"
    else:
        sparsity = f"{100 * (now or 0):.1f} → {target}"
        epoch = f"{len(trial.epochs)}/{_epochs_of(trial)}"
    accuracy = f"{record['val_top1']:.2f} %" if "val_top1" in record else ""
    cost = format_flops(record["gflops"]) if "gflops" in record else ""
    return [number, trial.summary.method, sparsity, epoch, accuracy, cost]


def _line(trial: Trial, record: dict[str, Any]) -> str:
    """Format a trial as a line of aligned columns."""
    _, *rest = _facts(trial, record)
    number = trial.number
    if trial.status == "failed":
        return f"trial {number:>3}  {rest[0]}"
    method, sparsity, epoch, accuracy, cost = rest
    kind = {"running": "epoch ", "stopped": "stopped "}.get(trial.status, "") + epoch
    return f"trial {number:>3}  {method:<5}  {sparsity:>15}  {kind:>13}  {accuracy:>8}  {cost:>12}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
