"""Connect to Ray, on this machine or on a cluster, and count the slots that fit."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants
from ray._private import services as ray_services
from ray._private import utils as ray_utils
from ray._private.node import Node

from st3sweep.execution.fork_server import fork_server
from st3sweep.execution.mps import multi_process_service
from st3sweep.space.resources import KIND, Resources, count_slots
from st3sweep.util.errors import UserError
from st3sweep.util.sockets import ray_folder

_COMMAND = "_build_python_executable_command_memory_profileable"  # of Ray: begins the command of a process in Python


@contextmanager
def cluster(
    address: str | None,
    resources: Resources,
    say: Callable[[str], None] = lambda _: None,
    *,
    verbose: bool = False,
    decide: Callable[[Resources], Resources] = lambda given: given,
) -> Iterator[tuple[Resources, int]]:
    """Connect to ``address``, or start Ray on this machine; yield ``resources``, and how many slots fit.

    ``decide`` replaces ``trials_per_gpu: auto`` by a number, once Ray is there. ``say`` is told if Ray's temporary
    files are not where the environment wants them, if trials that share a GPU of this machine take turns, and if there
    are GPUs that no trial asks for.
    """
    quiet: dict[str, Any] = {} if verbose else {"logging_level": "ERROR", "log_to_driver": False}
    with ExitStack() as to_close:
        if address is None:
            # On this machine, workers may outnumber the cores and share them.
            cpus = max(os.cpu_count() or 1, resources.workers * resources.cpus_per_worker)
            folder = str(ray_folder(say))
            if resources.may_share_gpus:
                to_close.enter_context(multi_process_service(say))
            to_close.enter_context(fork_server())
            start = partial(
                ray.init, address="local", num_cpus=cpus, include_dashboard=False, _temp_dir=folder, **quiet
            )
            with without_unused_processes(verbose=verbose):
                try:
                    start()
                except Exception as error:
                    # Ray gives its own processes 15 s to start, too little on a busy machine.
                    say(f"Ray did not start ({str(error).splitlines()[0]}); trying once more")
                    ray.shutdown()
                    start()
            available = {**ray.cluster_resources(), "CPU": float(cpus)}
        else:
            try:
                ray.init(address=address, **quiet)
            except ConnectionError as error:
                raise UserError(f"--address {address}: no Ray cluster there ({str(error).splitlines()[0]})") from None
            available = _available(ray.nodes(), resources)
        to_close.callback(ray.shutdown)
        if unused := resources.unused_gpus(available.get("GPU", 0)):
            say(unused)
        count_slots(available, resources, grows=address is not None)  # raises where nothing can be measured
        resources = decide(resources)
        yield resources, count_slots(available, resources, grows=address is not None)


@contextmanager
def without_unused_processes(*, verbose: bool = False) -> Iterator[None]:
    """Let Ray start without the processes that a sweep on one machine has no use for, each of which imports Ray anew.

    They are the autoscaler's monitor, the server of the dashboard, for which ``ray.init`` waits even if there is to be
    none, and, unless ``verbose``, the one that brings the output of workers here. The check that the dashboard could be
    started, which imports it for more than a second, is skipped too. The dashboard's agent, without which no node
    starts, is replaced by one that does nothing. All this is internal to Ray (2.60): what is not found there starts as
    usual.
    """
    unused = ["start_monitor", "start_api_server", *([] if verbose else ["start_log_monitor"])]
    places = [
        *((Node, name) for name in unused),
        (ray_utils, "get_dashboard_dependency_error"),
        (ray_services, _COMMAND),
    ]
    originals = [(place, name, getattr(place, name)) for place, name in places if hasattr(place, name)]
    for place, name, original in originals:
        setattr(place, name, partial(_command, original) if name == _COMMAND else lambda *_, **__: None)
    try:
        yield
    finally:
        for place, name, original in originals:
            setattr(place, name, original)


def _command(original: Callable[..., list[str]], component: str, *arguments: Any, **named: Any) -> list[str]:
    """Return the start of the command of one of Ray's processes; Ray's own script and its arguments follow."""
    if component == ray_constants.PROCESS_TYPE_DASHBOARD_AGENT:
        return [sys.executable, "-S", str(Path(__file__).with_name("quiet_agent.py"))]
    return original(component, *arguments, **named)


def _available(nodes: list[dict[str, Any]], resources: Resources) -> dict[str, float]:
    """Return the sum of what the living machines have; only of those with GPUs of the kind that is asked for."""
    total: Counter[str] = Counter()
    for node in nodes:
        if node["Alive"] and (resources.accelerator is None or f"{KIND}{resources.accelerator}" in node["Resources"]):
            total.update(node["Resources"])
    return dict(total)
