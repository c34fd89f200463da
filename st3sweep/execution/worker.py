"""Run in every worker of a slot: take a trial, train it with ``training.loop.fit``, take the next."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import ray
import torch
from ray import train

from st3sweep import data
from st3sweep.data import StagingError
from st3sweep.execution.mps import has_left
from st3sweep.execution.reporter import Reporter
from st3sweep.execution.trial_in_store import trial_in_store
from st3sweep.training.components import register_components, register_from_functions
from st3sweep.training.gpu_memory import is_usable, limit
from st3sweep.training.loop import Diverged, fit
from st3sweep.training.process_state import ProcessState
from st3sweep.training.saver import Preempted
from st3sweep.training.world import World
from st3sweep.trial.data import DataConfig
from st3sweep.trial.recipes import resolve
from st3sweep.util.errors import NO_SPACE, UserError
from st3sweep.util.storage.object_errors import StoreError

_splits: dict[str, data.Splits] = {}  # cache of the last data: the next trial mostly uses the same


def worker_loop(config: dict[str, Any]) -> None:
    """Train trials from the slot's mailbox until it closes.

    ``config``: the slot's ``mailbox`` (actor handle), ``threads`` per worker, whether to use a ``gpu``, the worker's
    ``gpu_share`` of it, ``plugins``,
    ``seconds_between_losses`` of a machine of the trial (None: not expected),
    and ``functions``, pickled: the components that the driver's program has registered from functions.
    """
    context = train.get_context()
    torch.set_num_threads(config["threads"])
    device = train.torch.get_device() if config["gpu"] else torch.device("cpu")
    world = World(context.get_world_rank(), context.get_world_size(), device)
    limit(config["gpu_share"], device)
    mailbox, unusable = config["mailbox"], _register(config["plugins"], config["functions"], world)
    group = ray.util.get_current_placement_group()
    handle = ray.cloudpickle.dumps(ray.get_runtime_context().current_actor)  # the mailbox need not import its class
    ray.get(mailbox.enter.remote(world.rank, handle, group.id.hex() if group else None, _log(), _node()))
    clean = ProcessState.capture()
    reporter = Reporter(lambda number, messages: ray.get(mailbox.report.remote(number, messages)))
    finished = 0
    # Each rank waits at the mailbox, which has no timeout; all ranks train the job that rank 0 took.
    while taken := world.broadcast(ray.get(mailbox.take.remote(world.rank, finished))):
        finished, job = taken
        clean.restore()
        reporter.start(finished)
        _run(job, reporter, world, mailbox, unusable, config["seconds_between_losses"])
        if has_left():
            return  # the next trials get a process within MPS


def _node() -> str:
    """Return this machine, as Ray names it."""
    return ray.get_runtime_context().get_node_id()


def _log() -> tuple[str, str] | None:
    """Return this host and the file that Ray writes this process's errors to; None where it is not known."""
    try:
        path = os.readlink("/proc/self/fd/2")
    except OSError:
        return None
    return (socket.gethostname(), path) if Path(path).is_file() else None


def _register(plugins: Sequence[str], functions: bytes, world: World) -> Exception | None:
    """Register all components; return the error of a plugin that this worker, or another rank's, cannot import.

    Raised here, it would end the worker, and Train would start it again and again.
    """
    error: UserError | None = None
    try:
        register_components(plugins)
        register_from_functions(ray.cloudpickle.loads(functions))
    except UserError as found:
        error = found
    except Exception as found:  # unpickling imports modules, which may raise anything
        error = UserError(f"a registered function cannot be imported by a worker ({_one_line(found)})")
    return world.first_error(error)


def _run(
    job: dict[str, Any],
    reporter: Reporter,
    world: World,
    mailbox: Any,
    unusable: Exception | None,
    losses: float | None,
) -> None:
    """Train one job. Reports a failure as data, since an exception raised here would end the slot.

    ``losses``: expected seconds between two losses of a machine of the trial; None where none is expected.
    """

    def report(message: dict[str, Any]) -> bool:
        return world.is_main and reporter.report(message)

    def say(line: str) -> None:
        """Tell the log and the user; a report, so that a long copy is no hang."""
        print(line, file=sys.stderr, flush=True)
        reporter.report({"note": f"{socket.gethostname()}: {line}"})

    def leave() -> bool:
        return ray.get(mailbox.is_leaving.remote())

    try:
        if unusable is not None:
            raise unusable
        spec = resolve(job["spec"])
        with _folder(job, world) as folder:
            splits = _load(spec.data, say, world)
            end = fit(spec, world, report, folder, splits, leave=leave, seconds_between_losses=losses)
        report(end)
    except Preempted:  # the group is started again, on other machines: Ray places nothing on one that it drains
        if world.is_main:
            ray.get(mailbox.left.remote())
        raise
    except StagingError as error:  # of this machine, not of the trial; ranks on others do not raise it
        reporter.report({"status": "interrupted", "error": f"{socket.gethostname()}: {error}"})
        if world.size > 1:
            raise
    except (Diverged, UserError) as error:  # every rank raises it at the same point
        report({"status": "failed", "error": _one_line(error)})
    except Exception as error:
        if not is_usable(world.device):  # new processes resume the trial from its checkpoint, at most a few times
            raise
        no_space = isinstance(error, OSError) and error.errno in NO_SPACE
        passes = no_space or isinstance(error, StoreError)
        status = "interrupted" if passes else "failed"  # a full disk is not the trial's fault
        reporter.report({"status": status, "error": _one_line(error)})
        if world.size > 1 or (world.device.type == "cuda" and not isinstance(error, torch.OutOfMemoryError)):
            raise  # other ranks wait in a collective, or the device is in an unknown state: restart the group


def _folder(job: dict[str, Any], world: World) -> AbstractContextManager[Path]:
    """Return the trial's folder: one that all machines share, or of this machine and stored as it goes."""
    if job["store"] is None:
        return contextlib.nullcontext(Path(job["folder"]))
    return trial_in_store(job["store"], job["trial"], job["spec"], world)


def _load(spec: DataConfig, say: Callable[[str], None], world: World) -> data.Splits:
    """Load the data, or what is kept of the trial before; a DataError of one rank is raised on all."""
    key, error = spec.model_dump_json(), None
    if key not in _splits:
        _splits.clear()
        try:
            _splits[key] = data.load(spec, say)
        except data.DataError as found:
            error = found
    if failed := world.first_error(error):
        raise failed
    return _splits[key]


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
