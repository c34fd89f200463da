"""A slot: one TorchTrainer run whose workers stay alive, held by a reused Tune actor; trials pass through it.

Starting a Train run costs tens of seconds of imports and actors. A slot pays that once: Tune reuses the actor for
trial after trial, and the actor hands each trial to its workers through a mailbox. The documented pattern, a Train run
a trial, costs that for every trial.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import ray
from ray import train, tune

from st3sweep.sweep.mailbox import Mailbox

MAX_REBUILDS = 20  # of a slot's worker group, over the life of the slot


class SlotTrainable(tune.Trainable):
    """Tune's view of a slot. A Tune trial's config is ``{"job": {...}, "slot": {...}}``; its results are records."""

    def setup(self, config: dict[str, Any]) -> None:
        slot = config["slot"]
        # No CPU of its own: it only waits.
        self._mailbox = ray.remote(Mailbox).options(num_cpus=0, max_concurrency=100).remote()
        self._error: BaseException | None = None
        self._trainer = threading.Thread(target=self._hold_workers, args=(slot,), daemon=True)
        self._trainer.start()
        self._backlog: list[dict[str, Any]] = []
        ray.get(self._mailbox.put.remote(config["job"]))

    def _hold_workers(self, slot: dict[str, Any]) -> None:
        # Here, since importing torch takes seconds that the driver, which imports this module, need not spend.
        from ray.train.torch import TorchTrainer

        from st3sweep.sweep.worker import worker_loop

        resources: dict[str, float] = {"CPU": slot["cpus_per_worker"]}
        if slot["gpus_per_worker"]:
            resources["GPU"] = slot["gpus_per_worker"]
        trainer = TorchTrainer(
            worker_loop,
            train_loop_config={
                "mailbox": self._mailbox,
                "threads": slot["cpus_per_worker"],
                "gpu": bool(slot["gpus_per_worker"]),
            },
            scaling_config=train.ScalingConfig(
                num_workers=slot["workers"], use_gpu=bool(slot["gpus_per_worker"]), resources_per_worker=resources
            ),
            run_config=train.RunConfig(
                name=f"slot-{self.trial_id}",
                storage_path=str(Path(slot["folder"])),
                failure_config=train.FailureConfig(max_failures=MAX_REBUILDS),
            ),
        )
        try:
            trainer.fit()
        except BaseException as error:  # kept, and raised in the Tune actor's own thread
            self._error = error

    def step(self) -> dict[str, Any]:
        """The next record of the trial. The last one has a ``status``."""
        while not self._backlog:
            self._backlog = ray.get(self._mailbox.next_messages.remote(1.0))
            if not self._backlog and not self._trainer.is_alive():
                raise RuntimeError(f"the slot's workers are gone: {self._error}") from self._error
        message = self._backlog.pop(0)
        return {"record": message, "done": "status" in message}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Another trial on the same workers."""
        self._backlog = []
        ray.get(self._mailbox.put.remote(new_config["job"]))
        return True

    def cleanup(self) -> None:
        ray.get(self._mailbox.close.remote())
        self._trainer.join(timeout=30)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: training keeps its own checkpoints, in the trial's folder."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing."""
