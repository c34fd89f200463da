"""Keep a trial's checkpoints in the run's object store from the workers, which may be on several machines."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from st3sweep.runs.folder import write_config
from st3sweep.runs.store import local_folder
from st3sweep.runs.trial_store import TrialStore
from st3sweep.training.world import World
from st3sweep.util.storage.object_errors import StoreError
from st3sweep.util.storage.objects import Objects

INTERVAL_SECONDS = 10.0  # between two looks for a new checkpoint
LAST_TRY_SECONDS = 60.0  # when the trial ends, before its end is reported: only this machine has its model


@contextmanager
def trial_in_store(url: str, number: int, spec: dict[str, Any], world: World) -> Iterator[Path]:
    """Bring the trial's checkpoints to this machine, and store new ones until the block ends; yield its folder.

    ``spec``, the trial's settings, are stored with them: the driver's folder may be on another machine.
    All ranks continue from the same checkpoint. Raises OSError where the store refuses at the start: another rank, or
    the next slot, needs what it holds.
    """
    run = local_folder(url)
    trial = TrialStore(Objects(url), run, number)
    run.mkdir(parents=True, exist_ok=True)
    if world.is_main:
        trial.pull()
        write_config(trial.folder, spec)
        if world.size > 1:
            trial.push()  # what the ranks on other machines have to start from
    world.broadcast(None)
    if not world.is_main:
        trial.pull(exactly=True)
    world.broadcast(None)
    if not world.is_main:
        yield trial.folder
        return
    stop = threading.Event()
    thread = threading.Thread(target=_store, args=(trial, stop), name="store", daemon=True)
    thread.start()
    try:
        yield trial.folder
    finally:
        stop.set()
        thread.join()
        _store_last(trial)


def _store(trial: TrialStore, stop: threading.Event) -> None:
    pause = INTERVAL_SECONDS
    while not stop.wait(pause):
        try:
            trial.push()
            pause = INTERVAL_SECONDS
        except OSError as error:  # StoreError, or of the local disk
            if pause == INTERVAL_SECONDS:
                print(f"{error}; training continues", flush=True)
            pause = min(2 * pause, 60.0)


def _store_last(trial: TrialStore) -> None:
    waited = 0.0
    while True:
        try:
            trial.push()
            return
        except OSError as error:
            if not (isinstance(error, StoreError) and error.passes) or waited >= LAST_TRY_SECONDS:
                print(f"{error}; not stored: {trial.folder}", flush=True)
                return
        time.sleep(2.0)
        waited += 2.0
