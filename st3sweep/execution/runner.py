"""Run a sweep from a checked space to its results: lock the folder, start Ray, run the slots, close in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from st3sweep.execution.cluster import cluster
from st3sweep.execution.driver import run_slots
from st3sweep.execution.gpu_share import decided
from st3sweep.execution.loggers import Tracking
from st3sweep.reporting.json_events import JsonEvents
from st3sweep.reporting.live_table import LiveTable
from st3sweep.runs.folder import lock, take_stop_request, write_resolved
from st3sweep.runs.ledger import LedgerError
from st3sweep.runs.store import store_of
from st3sweep.space.space import Space
from st3sweep.sweep.state import Outcome, Sweep
from st3sweep.util.errors import NO_SPACE


@contextmanager
def sweep(
    space: Space,
    folder: Path,
    address: str | None,
    progress: LiveTable | JsonEvents,
    keep_only: Callable[[int, Iterable[str]], None] | None = None,
    *,
    verbose: bool = False,
    promote: Sequence[int] = (),
    track: Sequence[str] = (),
    plugins: Sequence[str] = (),
) -> Iterator[Outcome]:
    """Run what remains of the run in ``folder``, until it is complete, out of budget, or interrupted and resumable.

    Yields the outcome once the run's tables are written; shuts Ray down, which takes seconds, when the block ends.
    ``promote`` are early-stopped trials to train to the end, ``track`` names of loggers (see ``loggers.py``),
    ``plugins`` modules that the workers import. ``keep_only`` is told which checkpoints of an ended trial stay. The
    first SIGINT or SIGTERM ends the run after the current epochs; the second ends it at once.
    """
    with ExitStack() as to_close:
        to_close.enter_context(lock(folder))  # until no worker is left that could write to the folder
        with progress:
            write_resolved(folder, space.document.data)
            take_stop_request(folder)  # one left over from an earlier program
            cluster_ = to_close.enter_context(ExitStack())
            tracking = Tracking(track, folder, progress.say) if track else None
            run = Sweep(space, folder, progress, tracking, plugins, keep_only)
            try:
                run.promote(promote)
                run.checkpoints.all_ended()  # after the promotion, whose checkpoints stay
                progress.resumed([trial for trial in run.ledger.trials.values() if trial.status != "running"])
                if not run.is_complete() and not run.blocking_limit():
                    decide = partial(decided, space=space, plugins=plugins, say=progress.say)
                    asked = space.config.resources
                    resources, slots = cluster_.enter_context(
                        cluster(address, asked, progress.say, verbose=verbose, decide=decide)
                    )
                    run.resources = resources
                    _run_slots(run, slots, plugins, store_of(folder) if address else None)
                if run.to_measure() and (run.is_complete() or run.blocking_limit()):
                    cluster_.close()  # nothing may run beside the measurements
                    _measure(run)
            except KeyboardInterrupt:
                run.pause("interrupted at once")
            except LedgerError as error:
                run.pause(str(error))
            except OSError as error:
                if error.errno not in NO_SPACE:
                    raise
                run.pause(f"{error.strerror}: {error.filename or folder}")
            finally:
                run.close()
        yield run.outcome()


def _run_slots(run: Sweep, slots: int, plugins: Sequence[str], store: str | None) -> None:
    with _signals(run):
        try:
            run_slots(run, int(min(slots, run.slots_needed())), plugins, store=store)
        finally:
            run.end_tracking()


def _measure(run: Sweep) -> None:
    run.pausing = True  # no trial is left: the first signal ends the measuring, which the next program continues
    run.progress.say(f"measuring the latency of trials on this machine, one after another: {run.to_measure()} of them")
    with _signals(run):
        run.measure()


@contextmanager
def _signals(run: Sweep) -> Iterator[None]:
    """Pause the run on the first signal; raise KeyboardInterrupt on the next."""

    def handle(number: int, _: Any) -> None:
        if run.pausing:
            raise KeyboardInterrupt
        run.pause(signal.Signals(number).name)
        run.progress.say("stopping after the current epochs; press Ctrl-C again to stop at once")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
