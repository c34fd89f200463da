"""Test a slot's mailbox: jobs in order, an open job for new workers, and failure of a job that kills them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from st3sweep.execution import slot
from st3sweep.execution.mailbox import Mailbox, see

FIRST, SECOND = {"trial": 0}, {"trial": 1}
NOTHING = 0.01  # seconds to wait for what must not come


def run(story: Callable[[Mailbox], None], max_attempts: int = 3, lasting: int = 0) -> None:
    box = Mailbox(max_attempts, lasting)
    try:
        story(box)
    finally:
        box.close()


def begun(call: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """Call in a thread, as an actor does."""
    answer: Future[Any] = Future()
    threading.Thread(target=lambda: answer.set_result(call(*arguments)), daemon=True).start()
    return answer


def still_waits(call: Callable[..., Any], *arguments: Any) -> bool:
    answer = begun(call, *arguments)
    time.sleep(NOTHING)
    return not answer.done()


def test_jobs_and_messages_in_order() -> None:
    def story(box: Mailbox) -> None:
        box.put(FIRST)
        assert [box.take(rank, 0) for rank in (0, 1)] == [(1, FIRST), (1, FIRST)]
        box.report(1, [{"epoch": 1}])
        box.report(1, [{"epoch": 2}])
        box.report(1, [{"status": "finished"}])
        assert box.next_messages(1) == [{"epoch": 1}, {"epoch": 2}, {"status": "finished"}]
        assert box.next_messages(NOTHING) == []
        box.put(SECOND)
        assert [box.take(rank, 1) for rank in (0, 1)] == [(2, SECOND), (2, SECOND)]

    run(story)


def test_takers_wait_for_a_job_and_readers_for_a_message() -> None:
    def story(box: Mailbox) -> None:
        assert still_waits(box.take, 0, 0)
        taker = begun(box.take, 0, 0)
        reader = begun(box.next_messages, 5)
        time.sleep(NOTHING)
        box.put(FIRST)
        assert taker.result(10) == (1, FIRST)
        assert not reader.done()
        box.report(1, [{"epoch": 1}])
        assert reader.result(10) == [{"epoch": 1}]
        assert still_waits(box.take, 0, 1), "it has already taken this job"

    run(story)


def test_a_new_worker_gets_the_open_job_but_not_one_that_is_over() -> None:
    def story(box: Mailbox) -> None:
        box.put(FIRST)
        assert box.take(0, 0) == (1, FIRST)
        assert box.take(0, 0) == (1, FIRST), "the worker was replaced"
        box.report(1, [{"status": "finished"}])
        assert still_waits(box.take, 0, 0)
        box.put(SECOND)
        assert box.take(0, 0) == (2, SECOND)

    run(story)


def test_a_worker_that_died_waiting_takes_no_job() -> None:
    def story(box: Mailbox) -> None:
        box.enter(0, b"first")
        dead = begun(box.take, 0, 0)
        time.sleep(NOTHING)
        assert not dead.done()
        box.enter(0, b"second")
        assert dead.result(10) is None
        box.put(FIRST)
        assert box.take(0, 0) == (1, FIRST), "it is the job's first attempt"

    run(story, max_attempts=1)


def test_a_job_that_takes_its_workers_down_fails_and_the_next_is_taken() -> None:
    def story(box: Mailbox) -> None:
        box.put(FIRST)
        for attempt in (1, 2):
            for rank in (0, 1):
                box.enter(rank, b"", "group", ("node-7", f"/logs/{attempt}.err") if rank == 0 else None)
            assert box.deliver(0.0)[1:3] == ("group", ("node-7", f"/logs/{attempt}.err"))
            assert box.attempts() == attempt - 1
            assert box.take(0, 0) == (1, FIRST)
            assert box.take(1, 0) == (1, FIRST), "only rank 0 counts"
        box.enter(0, b"", "group", ("node-7", "/logs/3.err"))
        third = begun(box.take, 0, 0)
        assert box.next_messages(5) == [
            {"status": "failed", "error": "its workers died 2 times; see /logs/2.err on node-7"}
        ]
        assert not third.done()
        assert box.attempts() == 0, "no job is open"
        box.put(SECOND)
        assert third.result(10) == (2, SECOND)
        assert box.take(0, 0) == (2, SECOND), "the count starts again with a job"

    run(story, max_attempts=2)


def test_an_output_is_named_with_its_machine_if_that_is_another_one() -> None:
    assert see(None) == ""
    assert see((socket.gethostname(), "/logs/1.err")) == "; see /logs/1.err"
    assert see(("node-7", "/logs/1.err")) == "; see /logs/1.err on node-7"


def test_closing_releases_all_waiting_calls() -> None:
    def story(box: Mailbox) -> None:
        takers = [begun(box.take, rank, 0) for rank in (0, 1)]
        time.sleep(NOTHING)
        box.close()
        assert [taker.result(10) for taker in takers] == [None, None]
        assert box.take(0, 5) is None

    run(story)


@pytest.mark.parametrize("late", [{"epoch": 9}, {"status": "failed", "error": "late"}])
def test_a_report_of_an_old_job_is_ignored(late: dict[str, Any]) -> None:
    def story(box: Mailbox) -> None:
        box.put(FIRST)
        box.take(0, 0)
        box.report(1, [{"status": "finished"}])
        box.report(1, [late])
        assert box.next_messages(1) == [{"status": "finished"}]
        box.put(SECOND)
        box.report(1, [late])
        assert box.next_messages(NOTHING) == []
        assert box.take(0, 1) == (2, SECOND), "it is still open"

    run(story)


def test_a_new_job_discards_messages_of_the_last() -> None:
    def story(box: Mailbox) -> None:
        box.put(FIRST)
        box.report(1, [{"epoch": 1}])
        box.put(SECOND)
        assert box.next_messages(NOTHING) == []

    run(story)


def test_stop_is_the_answer_to_a_report_until_the_next_job() -> None:
    def story(box: Mailbox) -> None:
        box.put(FIRST)
        assert not box.report(1, [{"epoch": 1}])
        box.stop(SECOND["trial"])
        assert not box.report(1, [{"epoch": 2}]), "that is another trial"
        box.stop(FIRST["trial"])
        assert box.report(1, [{"epoch": 3}])
        box.put(SECOND)
        assert not box.report(2, [{"epoch": 1}])

    run(story)


def test_a_worker_ends_after_its_number_of_jobs_and_the_next_takes_over() -> None:
    def story(box: Mailbox) -> None:
        box.enter(0, "first worker")
        for number, job in enumerate([FIRST, SECOND], start=1):
            box.put(job)
            assert box.take(0, number - 1) == (number, job)
            box.report(number, [{"status": "finished"}])
        box.put(FIRST)
        assert box.take(0, 2) is None
        assert not box.is_closed()
        box.enter(0, "second worker")
        assert box.take(0, 0) == (3, FIRST)

    run(story, lasting=2)


def test_a_job_that_is_silent_for_too_long_fails_and_its_workers_are_named() -> None:
    def story(box: Mailbox) -> None:
        for rank, worker in enumerate(["a", "b"]):
            box.enter(rank, worker)
        assert box.silent(0.0) == [], "no job is open"
        box.put(FIRST)
        time.sleep(NOTHING)
        assert box.silent(0.0) == [], "the workers have not started"
        box.take(0, 0)
        assert box.silent(60.0) == []
        time.sleep(5 * NOTHING)
        box.report(1, [{"epoch": 1}])
        assert box.silent(5 * NOTHING) == []
        assert not box.give_up(5 * NOTHING)
        assert box.next_messages(1) == [{"epoch": 1}], "it is not late"
        time.sleep(6 * NOTHING)
        assert box.silent(5 * NOTHING) == ["a", "b"]
        assert box.give_up(5 * NOTHING)
        failed = {"status": "failed", "error": "hangs: nothing was reported for 0.05 seconds"}
        assert box.next_messages(1) == [failed]
        box.report(1, [{"status": "finished"}])
        assert box.next_messages(NOTHING) == [], "it woke up too late"

    run(story)


def test_a_slot_learns_at_once_that_its_workers_have_entered() -> None:
    def story(box: Mailbox) -> None:
        assert not box.deliver(NOTHING).entered
        learns = begun(box.deliver, 60.0)
        box.enter(1, b"")
        time.sleep(NOTHING)
        assert not learns.done()
        box.enter(0, b"")
        assert learns.result(10).entered
        assert still_waits(box.deliver, 60.0), "only once"

    run(story)


@pytest.mark.parametrize("reports", [False, True])
def test_workers_are_killed_unless_their_trial_reports_while_they_are_probed(
    monkeypatch: pytest.MonkeyPatch, *, reports: bool
) -> None:
    def story(box: Mailbox) -> None:
        def is_dead(_: Any) -> bool:
            if reports:
                box.report(1, [{"epoch": 1}])
            return False

        killed: list[str] = []
        monkeypatch.setattr(slot, "_is_dead", is_dead)
        monkeypatch.setattr(slot.ray, "get", lambda answer: answer)
        monkeypatch.setattr(slot.ray, "kill", killed.append)
        box.enter(0, slot.ray.cloudpickle.dumps("worker"))
        box.put(FIRST)
        box.take(0, 0)
        time.sleep(6 * NOTHING)
        held = slot.Slot.__new__(slot.Slot)
        held._mailbox = SimpleNamespace(give_up=SimpleNamespace(remote=box.give_up))
        held._config = {"hang_seconds": 5 * NOTHING}
        held._end_if_hanging(box.silent(5 * NOTHING))
        assert killed == ([] if reports else ["worker"])

    run(story)


def test_a_rank_that_enters_late_does_not_end_the_wait_for_a_report() -> None:
    def story(box: Mailbox) -> None:
        box.put(FIRST)
        box.enter(0, b"a")
        box.take(0, 0)
        box.enter(1, b"b")
        time.sleep(NOTHING)
        assert box.silent(0.0) == [b"a", b"b"]

    run(story)


def test_leaving_a_machine_that_is_drained_is_no_death() -> None:
    def story(box: Mailbox) -> None:
        box.put(FIRST)
        for rank, node in ((0, "one"), (1, "two")):
            box.enter(rank, b"", node=node)
            assert box.take(rank, 0) == (1, FIRST)
        assert box.deliver(0.0).nodes == {"one", "two"}
        assert not box.is_leaving()
        box.leave()
        assert box.is_leaving()
        box.left()
        assert box.deliver(0.0).nodes == set(), "the next group would leave at once"
        box.enter(0, b"", node="three")
        assert not box.is_leaving()
        assert box.take(0, 0) == (1, FIRST)
        assert box.next_messages(NOTHING) == []

    run(story, max_attempts=1)
