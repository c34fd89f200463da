"""Keep TorchTrainer workers alive in a slot, which is one Tune trial, and train the sweep's trials in it in turn.

Starting a Train run costs tens of seconds of imports and actors. A slot pays that once: its Tune trial lasts as long as
the sweep, and the driver passes it one trial of the sweep after another through a mailbox. The documented pattern, a
Train run per trial, pays it for each trial; and Tune's own work per trial grows with the number of its trials.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from typing import Any

import ray
from ray import train, tune

from st3sweep.execution.mailbox import Delivery, Mailbox
from st3sweep.execution.placement_groups import placement_groups

MAX_REBUILDS = 20  # of a group of workers, before the slot counts as lost
CLOSE_SECONDS = 30.0
PROBE_SECONDS = 5.0
THREADS = 5  # of a mailbox, beside one for each worker, which waits for a job: one waits for messages, others answer


class Slot(tune.Trainable):
    """A slot as a Tune trainable; the driver puts jobs into its mailbox.

    Results are ``{"mailbox": name, "messages": [...], "group": id, "log": (host, path), "entered": flag}``. ``group``
    is the placement group of its workers, ``log`` the output of the first; both are None before they start. Once the
    slot has had workers, ``entered`` is true and asks for a trial.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._name, self._config = f"mailbox-{uuid.uuid4().hex}", config
        placement_groups.slot = self.trial_id
        threads = config["workers"] + THREADS
        mailbox = ray.remote(Mailbox).options(name=self._name, num_cpus=0, max_concurrency=threads)  # it only waits
        self._mailbox = mailbox.remote(lasting=config["trials_per_process"] or 0)
        self._error: BaseException | None = None
        self._workers = threading.Thread(target=self._hold_workers, daemon=True)
        self._workers.start()  # while the mailbox starts
        self._introduced = False
        self._whereabouts: Any = None

    def step(self) -> dict[str, Any]:
        """Return the reports since the last step; an empty list when the mailbox or the workers have started."""
        try:
            return self._next_result()
        except Exception:
            # Tune cleans nothing up: the controller would reserve what the next slot needs until this actor ends.
            placement_groups.close()
            raise

    def _next_result(self) -> dict[str, Any]:
        if not self._introduced:
            found: Delivery = ray.get(self._mailbox.deliver.remote(0.0))  # once it answers, the driver gets it by name
            self._introduced = True
            return self._result(found)
        while True:
            found = ray.get(self._mailbox.deliver.remote(1.0, self._config["hang_seconds"]))
            if found.messages:
                return self._result(found)
            if not self._workers.is_alive():
                if self._error is None:
                    return self._result(found) | {"done": True}
                raise RuntimeError(f"the slot's workers failed: {self._error}") from self._error
            self._end_if_hanging(found.silent)
            self._leave_if_drained(found.nodes)
            if self._whereabouts != _whereabouts(found):
                # The driver must know the group, to release it if this machine is lost, and the log, to name it; and
                # that there are workers, to assign a trial.
                return self._result(found)

    def _result(self, found: Delivery) -> dict[str, Any]:
        self._whereabouts = _whereabouts(found)
        group, log, entered = self._whereabouts
        return {"mailbox": self._name, "messages": found.messages, "group": group, "log": log, "entered": entered}

    def _hold_workers(self) -> None:
        """Run one group of workers after another until the mailbox is closed."""
        try:
            while not ray.get(self._mailbox.is_closed.remote()):
                _train_run(self._mailbox, self._config).fit()
        except BaseException as error:  # kept, and raised in the Tune actor's own thread
            self._error = error

    def _end_if_hanging(self, silent: list[bytes]) -> None:
        """Fail a trial that has not reported within the limit and kill its workers; Train then starts a new group."""
        workers = [*map(ray.cloudpickle.loads, silent)]
        if not workers or any(map(_is_dead, workers)):  # a dead worker's trial is resumed by the next
            return
        if ray.get(self._mailbox.give_up.remote(self._config["hang_seconds"])):  # it may have reported since
            for worker in workers:
                ray.kill(worker)

    def _leave_if_drained(self, nodes: set[str]) -> None:
        """Ask the workers to leave if Ray drains a machine of theirs: a spot machine is about to be taken away."""
        if nodes & set(_draining_nodes()):
            ray.get(self._mailbox.leave.remote())

    def cleanup(self) -> None:
        try:
            ray.get(self._mailbox.close.remote())
        except ray.exceptions.RayActorError:  # without it, workers would be started again and again
            placement_groups.close()
        else:
            self._workers.join(timeout=CLOSE_SECONDS)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Do nothing: training keeps its own checkpoints in the trial's folder."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Do nothing."""


def _whereabouts(found: Delivery) -> tuple[str | None, Any, bool]:
    """Return the workers' placement group, known before they start if made here, their output, and if they started."""
    return placement_groups.newest or found.group, found.log, found.entered


def _draining_nodes() -> dict[str, int]:
    """Return the machines that Ray drains, with the time of their end; none where Ray (2.60) cannot be asked."""
    with contextlib.suppress(Exception):
        return ray._private.state.state.get_draining_nodes()
    return {}


def _is_dead(worker: Any) -> bool:
    try:
        ray.get(worker.__ray_ready__.remote(), timeout=PROBE_SECONDS)
    except ray.exceptions.GetTimeoutError:
        return False  # it is hanging
    except ray.exceptions.RayActorError:
        return True
    return False


def _train_run(mailbox: Any, config: dict[str, Any]) -> Any:
    """Return a TorchTrainer whose workers take trials from ``mailbox``."""
    # Imported here: it takes seconds, which the driver, which imports this module too, need not spend.
    from ray.train.torch import TorchTrainer

    from st3sweep.execution.worker import worker_loop

    trainer, backend = TorchTrainer, {}
    with contextlib.suppress(ImportError):  # another version of Ray Train
        from st3sweep.execution.trainer import SlotConfig, SlotTrainer

        trainer, backend = SlotTrainer, {"torch_config": SlotConfig(mailbox if config["may_share_gpus"] else None)}

    gpus = config["gpu_share"]
    return trainer(
        worker_loop,
        **backend,
        train_loop_config={
            "mailbox": mailbox,
            "threads": config["cpus_per_worker"],
            "gpu": bool(gpus),
            "gpu_share": gpus,
            "seconds_between_losses": config["seconds_between_losses"],
            "plugins": config["plugins"],
            "functions": config["functions"],
        },
        scaling_config=train.ScalingConfig(
            num_workers=config["workers"],
            use_gpu=bool(gpus),
            resources_per_worker=config["of_worker"],
            placement_strategy="PACK",  # on one machine, if one has room: gradients then stay off the network
        ),
        run_config=train.RunConfig(
            name=f"slot-{uuid.uuid4().hex[:8]}",
            storage_path=config["folder"],
            failure_config=train.FailureConfig(max_failures=MAX_REBUILDS),
        ),
    )
