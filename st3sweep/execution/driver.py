"""Run the sweep through Tune: one Tune trial per slot, and a callback that assigns the sweep's trials to slots."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune

from st3sweep.execution.mailbox import Log, see
from st3sweep.execution.placement_groups import is_pending, release, release_all
from st3sweep.execution.slot import Slot
from st3sweep.execution.tune_results import forgotten_results
from st3sweep.runs.folder import take_stop_request, trial_folder, write_config
from st3sweep.space.resources import TUNE_ACTOR
from st3sweep.sweep.state import Sweep
from st3sweep.training.components import components_from_functions

SLOT_RESTARTS = 5  # of one slot, after it was lost
POLL_SECONDS = 1.0
STARVED_SECONDS = 30.0  # that a trial's workers wait for a machine before an idle slot makes room for them


@dataclass
class _Held:
    """The driver's record of a slot: its mailbox and the trial assigned to it."""

    name: str
    mailbox: Any
    group: str | None = None  # placement group of its workers
    log: Log | None = None  # their output
    entered: bool = False  # whether it has had workers
    number: int | None = None
    asked_to_stop: bool = False
    closed: bool = False  # its mailbox takes no more


class Driver(tune.Callback):
    """Passes the slots' messages to the sweep and assigns the sweep's trials to slots."""

    def __init__(self, sweep: Sweep, store: str | None = None):
        """``store`` is the address of the run if the workers, on several machines, store their checkpoints there."""
        self.sweep, self.store = sweep, store
        self.slots: dict[str, _Held] = {}  # by Tune's name of the slot
        self.notes: set[str] = set()  # shown to the user
        self.failure: BaseException | None = None
        self.closing = False  # whether a slot was closed because nothing was left for it
        self.pending: dict[str, float] = {}  # since when placement groups of trials wait for a machine
        self.polled = 0.0
        self.seen = -1  # the sweep's changes when all slots were last looked at

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks; the ledger holds the state

    def on_trial_result(self, *_: Any, trial: Any, result: dict[str, Any], **__: Any) -> None:
        try:
            self._receive(trial.trial_id, result)
        except Exception as error:  # Tune would count it as an error of the slot
            self.failure = self.failure or error

    def on_trial_error(self, *_: Any, trial: Any, **__: Any) -> None:
        release_all(trial.trial_id)
        self._on_slot_lost(trial.trial_id)

    on_trial_complete = on_trial_error
    on_trial_recover = on_trial_error  # before it is started again

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Poll the stop conditions and assign trials; called between any two events, at least ten times a second.

        Slots are looked at only when the sweep has changed, and once a second since the budget may be a time.
        """
        if self.failure is not None:
            raise self.failure
        due = time.monotonic() - self.polled >= POLL_SECONDS
        if due:
            self.polled = time.monotonic()
            self._poll_stop_conditions()
            self._poll_pending()
        if due or self.sweep.changes != self.seen:
            self.seen = self.sweep.changes
            for held in list(self.slots.values()):
                self._assign(held)

    def _receive(self, slot: str, result: dict[str, Any]) -> None:
        held = self.slots.get(slot)
        if held is None or held.name != result["mailbox"]:  # new, or restarted after it was lost
            self._on_slot_lost(slot)
            try:
                mailbox = ray.get_actor(result["mailbox"])
            except ValueError:  # it has died since: Tune reports next that the slot is lost
                return
            held = self.slots[slot] = _Held(result["mailbox"], mailbox)
        held.group, held.log = result["group"] or held.group, result["log"] or held.log
        held.entered = result["entered"]
        for message in result["messages"]:
            assert held.number is not None, "a slot reports only its assigned trial"
            if "note" in message:
                self._show(message["note"])
                continue
            self.sweep.record(held.number, message)
            if "status" in message:
                held.number, held.asked_to_stop = None, False
        self._assign(held)

    def _show(self, note: str) -> None:
        """Show the user what a worker does before it trains; once, where all slots of a host wait for the same."""
        if note not in self.notes:
            self.notes.add(note)
            self.sweep.progress.say(note)

    def _on_slot_lost(self, slot: str) -> None:
        held = self.slots.pop(slot, None)
        if held is not None and held.group is not None:
            release(held.group)
        if held is not None and held.number is not None:
            self.sweep.lost(held.number, see(held.log))

    def _assign(self, held: _Held) -> None:
        """Give a free slot a trial, or close it if none will follow; ask a busy slot to stop if the sweep wants it."""
        if held.number is not None:
            if not held.asked_to_stop and self.sweep.should_stop(held.number):
                held.mailbox.stop.remote(held.number)
                held.asked_to_stop = True
            return
        if held.closed:
            return
        if not held.entered:  # no machine may have room for its workers, while another slot could train the trial
            if self._nothing_follows():
                self._close(held)
            return
        trial = self.sweep.next_trial()
        if trial is not None:
            folder = trial_folder(self.sweep.folder, trial.number)
            write_config(folder, trial.spec)
            held.number = trial.number
            job = {"trial": trial.number, "spec": trial.spec, "folder": str(folder), "store": self.store}
            held.mailbox.put.remote(job)
        elif not self.sweep.may_have_more():
            self._close(held)
            self.closing = True
        elif any(time.monotonic() - since >= STARVED_SECONDS for since in self.pending.values()):
            self._close(held)  # it waits for replicates, and may hold what those workers wait for
            self.pending.clear()  # one slot at a time

    def _close(self, held: _Held) -> None:
        held.mailbox.close.remote()
        held.closed = True

    def _poll_pending(self) -> None:
        """Note which trials' workers wait for a machine while a slot is idle: theirs was lost and not replaced."""
        idle = any(held.entered and held.number is None for held in self.slots.values())
        groups = [held.group for held in self.slots.values() if idle and held.number is not None and held.group]
        now = time.monotonic()
        self.pending = {group: self.pending.get(group, now) for group in groups if is_pending(group)}

    def _nothing_follows(self) -> bool:
        """Return whether a slot that still waits for workers is not needed: the sweep ends with the other slots."""
        sweep = self.sweep
        return sweep.pausing or sweep.draining or (self.closing and not sweep.waiting)

    def _poll_stop_conditions(self) -> None:
        """Check what can end the run early: a stop request in the run's folder, and the budget."""
        request = take_stop_request(self.sweep.folder)
        if request == "drain":
            self.sweep.drain("asked to drain")
        elif request is not None:
            self.sweep.pause("asked to stop")
        if self.sweep.budget_hit():
            self.sweep.pause("the budget is spent")
        self.sweep.show_budget()


def run_slots(
    sweep: Sweep, slots: int, plugins: Sequence[str] = (), trainable: type[Slot] = Slot, store: str | None = None
) -> None:
    """Run all remaining trials in ``slots`` slots; return when none remains or the sweep ends early.

    ``store`` is as in ``Driver``.
    """
    resources = sweep.resources
    config = {
        **resources.model_dump(exclude={"slots", "hang_limit", "checkpoints"}),
        "hang_seconds": resources.hang_seconds,
        "of_worker": resources.of_worker(),
        "gpu_share": resources.gpu_share,
        "may_share_gpus": resources.may_share_gpus,
        "seconds_between_losses": resources.seconds_between_losses,
        "folder": str(sweep.folder / "ray" / "slots"),
        "plugins": list(plugins),
        "functions": ray.cloudpickle.dumps(components_from_functions()),  # by value where no module can be imported
    }
    tuner = tune.Tuner(
        tune.with_resources(trainable, TUNE_ACTOR),
        param_space=config,
        tune_config=tune.TuneConfig(num_samples=slots, trial_dirname_creator=lambda trial: f"slot-{trial.trial_id}"),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(sweep.folder / "ray"),
            callbacks=[Driver(sweep, store)],
            failure_config=tune.FailureConfig(max_failures=SLOT_RESTARTS),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )
    with forgotten_results():
        results = tuner.fit()
    failed = [error for error in results.errors if error is not None]
    if failed and not sweep.is_complete():
        reason = " ".join(str(failed[-1]).strip().splitlines()[-1].split())[:300]  # of a remote traceback, the error
        sweep.every_slot_lost(SLOT_RESTARTS + 1, reason)
