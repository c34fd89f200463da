"""A sweep from a checked space to its results: holds the folder, starts Ray, runs the slots, ends in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from st3sweep.errors import NO_SPACE
from st3sweep.run_folder import lock, take_stop_request, write_resolved
from st3sweep.space import Space
from st3sweep.sweep.cluster import cluster
from st3sweep.sweep.driver import run_slots
from st3sweep.sweep.events import JsonEvents
from st3sweep.sweep.ledger import LedgerError
from st3sweep.sweep.progress import Progress
from st3sweep.sweep.sweep import Outcome, Sweep
from st3sweep.sweep.tracking import Tracking


def sweep(
    space: Space,
    folder: Path,
    address: str | None,
    progress: Progress | JsonEvents,
    *,
    verbose: bool = False,
    promote: Sequence[int] = (),
    track: Sequence[str] = (),
) -> Outcome:
    """Run what is left of the run in ``folder``: complete, or ended by its budget, or interrupted and resumable.

    ``promote`` are trials that were stopped early and are to go on, ``track`` loggers to feed (see ``tracking``). The
    first SIGINT or SIGTERM ends the run when the epochs in progress have ended; the second one at once.
    """
    with lock(folder), progress:
        write_resolved(folder, space)
        take_stop_request(folder)  # one that came too late for the program before
        run = Sweep(space, folder, progress, Tracking(track, folder, progress.say) if track else None)
        try:
            run.promote(promote)
            progress.resumed([trial for trial in run.ledger.trials.values() if trial.status != "running"])
            if run.is_complete() or run.limit_in_the_way():
                return run.outcome()
            with cluster(address, space.spec.resources, verbose=verbose) as slots, _signals(run):
                try:
                    run_slots(run, int(min(slots, run.slots_needed())))
                finally:
                    run.end_tracking()
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
        return run.outcome()


@contextmanager
def _signals(run: Sweep) -> Iterator[None]:
    """The first signal pauses the run; what comes after it raises KeyboardInterrupt."""

    def handle(number: int, _: Any) -> None:
        if run.pausing:
            raise KeyboardInterrupt
        run.pause(signal.Signals(number).name)
        run.progress.say("ending with the epochs in progress; press Ctrl-C again to end at once")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
