"""How often the driver asks the sweep for work, with slots that are not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from driven_sweep import Run, train

from st3sweep.execution import driver
from st3sweep.execution.driver import Driver


class Mailbox:
    """Takes what a slot's mailbox takes; ``jobs`` are the numbers of the trials put into it."""

    def __init__(self) -> None:
        self.jobs: list[int] = []
        self.closed = False
        self.put = self.stop = self
        self.close = SimpleNamespace(remote=self._close)

    def _close(self) -> None:
        self.closed = True

    def remote(self, job: Any = None) -> None:
        if isinstance(job, dict):
            self.jobs.append(job["trial"])


def test_free_slots_ask_for_work_when_something_has_changed(
    run_of: Callable[[str], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "POLL_SECONDS", 1000.0)
    sweep = run_of("budget: {trials: 2}\nreplicates: {seeds: 2}").program()
    asked = []
    ask = sweep.next_trial
    monkeypatch.setattr(sweep, "next_trial", lambda: asked.append(1) or ask())
    made, mailboxes = Driver(sweep), [Mailbox(), Mailbox(), Mailbox()]
    made.polled = driver.time.monotonic()
    made.slots = {str(index): driver._Held(str(index), box, entered=True) for index, box in enumerate(mailboxes)}
    for _ in range(10):
        made.on_step_begin()
    assert [box.jobs for box in mailboxes] == [[0], [1], []]
    assert len(asked) == 3, "once each"

    for number in (0, 1):  # now the front gets second seeds, of which the third slot may have one
        train(sweep, sweep.ledger.trials[number])
        made.slots[str(number)].number = None
    for _ in range(10):
        made.on_step_begin()
    assert sum(len(box.jobs) for box in mailboxes) > 2
    assert len(asked) == 6

    sweep.pause("asked to stop")
    made.on_step_begin()
    assert all(held.asked_to_stop for held in made.slots.values() if held.number is not None)


def test_a_note_of_many_slots_is_shown_once(run_of: Callable[[str], Run], monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of("budget: {trials: 2}")
    made = Driver(run.program())
    monkeypatch.setattr(driver.ray, "get_actor", lambda _: Mailbox())
    facts = {"group": None, "log": None, "entered": True}
    for slot in ("a", "b"):
        made._receive(slot, {"mailbox": slot, "messages": [], **facts})
        made._receive(
            slot, {"mailbox": slot, "messages": [{"note": "host: waits"}, {"note": f"{slot}: copies"}], **facts}
        )
    shown = [event["text"] for event in map(json.loads, run.events.getvalue().splitlines()) if event["event"] == "note"]
    assert shown == ["host: waits", "a: copies", "b: copies"]
    assert [made.slots[slot].number for slot in ("a", "b")] == [0, 1], "a note ends no trial"


def test_a_slot_gets_a_trial_once_it_has_workers(run_of: Callable[[str], Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its workers may wait for a machine: the trial is left to a slot that has some, and costs nothing meanwhile."""
    sweep = run_of("budget: {trials: 2}\nreplicates: {seeds: 2}").program()
    mailboxes = {"waiting": Mailbox(), "working": Mailbox()}
    monkeypatch.setattr(driver.ray, "get_actor", mailboxes.__getitem__)
    made = Driver(sweep)

    def tell(slot: str, *, entered: bool) -> None:
        made._receive(slot, {"mailbox": slot, "messages": [], "group": None, "log": None, "entered": entered})
        made.on_step_begin()

    tell("waiting", entered=False)
    assert not sweep.held
    tell("working", entered=True)
    assert [mailboxes[slot].jobs for slot in ("waiting", "working")] == [[], [0]]
    tell("waiting", entered=True)
    assert mailboxes["waiting"].jobs == [1]


@pytest.mark.parametrize("how", ["nothing is left", "a trial waits", "asked to stop"])
def test_a_slot_that_waits_for_workers_ends_with_the_others(
    how: str, run_of: Callable[[str], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no result more that would close it. A trial that another slot has lost may still be its."""
    monkeypatch.setattr(driver, "POLL_SECONDS", 0.0)
    sweep = run_of("budget: {trials: 2}").program()
    made, mailboxes = Driver(sweep), {name: Mailbox() for name in ("waiting", "first", "second")}
    made.slots = {name: driver._Held(name, box, entered=name != "waiting") for name, box in mailboxes.items()}
    made.on_step_begin()
    assert [mailboxes[slot].jobs for slot in made.slots] == [[], [0], [1]]
    train(sweep, sweep.ledger.trials[0])
    made.slots["first"].number = None
    if how == "asked to stop":
        sweep.pause(how)
        made.on_step_begin()
        assert mailboxes["waiting"].closed
        return
    if how == "a trial waits":
        made._on_slot_lost("second")
        made.closing = True  # the other had been closed before
        made._assign(made.slots["waiting"])
        assert not mailboxes["waiting"].closed
        made.slots["waiting"].entered = True
        made._assign(made.slots["waiting"])
        assert mailboxes["waiting"].jobs == [1]
        return
    for _ in range(2):
        made.on_step_begin()
    assert mailboxes["first"].closed
    assert mailboxes["waiting"].closed
    assert not mailboxes["second"].closed


@pytest.mark.parametrize("pending", [True, False])
def test_an_idle_slot_makes_room_for_workers_that_wait(
    pending: bool, run_of: Callable[[str], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its machine was lost; idle slots wait for replicates, which come when that trial has ended."""
    monkeypatch.setattr(driver, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(driver, "STARVED_SECONDS", 0.0)
    monkeypatch.setattr(driver, "is_pending", lambda group: pending and group == "of the lost machine")
    sweep = run_of("budget: {trials: 3}\nreplicates: {seeds: 2}").program()
    made, mailboxes = Driver(sweep), {name: Mailbox() for name in ("starved", "first", "second")}
    made.slots = {name: driver._Held(name, box, entered=True) for name, box in mailboxes.items()}
    made.on_step_begin()
    made.slots["starved"].group = "of the lost machine"
    made.on_step_begin()
    assert not any(box.closed for box in mailboxes.values()), "no slot is idle"
    for number, name in ((1, "first"), (2, "second")):
        train(sweep, sweep.ledger.trials[number])
        made.slots[name].number = None
    made.on_step_begin()
    assert [mailboxes[name].closed for name in made.slots] == [False, pending, False], "one slot at a time"
    train(sweep, sweep.ledger.trials[0])
    made.slots["starved"].number = None
    made.on_step_begin()  # replicates follow, of which a closed slot gets none
    assert bool(mailboxes["first"].jobs[1:]) != pending
    assert mailboxes["starved"].jobs[1:]


def test_a_slot_whose_mailbox_has_died_by_its_first_result_does_not_end_the_sweep(
    run_of: Callable[[str], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    mailboxes: dict[str, Mailbox] = {}

    def get_actor(name: str) -> Mailbox:
        if name not in mailboxes:
            raise ValueError(f"Failed to look up actor with name '{name}'")
        return mailboxes[name]

    monkeypatch.setattr(driver.ray, "get_actor", get_actor)
    made, slot = Driver(run_of("budget: {trials: 2}").program()), SimpleNamespace(trial_id="slot")

    def tell(mailbox: str) -> None:
        facts = {"messages": [], "group": None, "log": None, "entered": True}
        made.on_trial_result(trial=slot, result={"mailbox": mailbox, **facts})
        made.on_step_begin()

    tell("died")
    mailboxes["next"] = Mailbox()
    tell("next")
    assert mailboxes["next"].jobs == [0]
