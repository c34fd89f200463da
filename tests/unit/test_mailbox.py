"""Test a slot's mailbox: jobs in order, an open job for new workers, and failure of a job that kills them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from st3sweep.execution.mailbox import Mailbox, see

FIRST, SECOND = {"trial": 0}, {"trial": 1}
NOTHING = 0.01  # seconds to wait for what must not come


def run(story: Callable[[Mailbox], Awaitable[Any]], max_attempts: int = 3, lasting: int = 0) -> None:
    async def told() -> None:
        await asyncio.wait_for(story(Mailbox(max_attempts, lasting)), 10)

    asyncio.run(told())


async def still_waits(call: Awaitable[Any]) -> bool:
    task = asyncio.ensure_future(call)
    done, _ = await asyncio.wait([task], timeout=NOTHING)
    task.cancel()
    return not done


def test_jobs_and_messages_in_order() -> None:
    async def story(box: Mailbox) -> None:
        await box.put(FIRST)
        assert [await box.take(rank, 0) for rank in (0, 1)] == [(1, FIRST), (1, FIRST)]
        await box.report(1, {"epoch": 1})
        await box.report(1, {"epoch": 2})
        await box.report(1, {"status": "finished"})
        assert await box.next_messages(1) == [{"epoch": 1}, {"epoch": 2}, {"status": "finished"}]
        assert await box.next_messages(NOTHING) == []
        await box.put(SECOND)
        assert [await box.take(rank, 1) for rank in (0, 1)] == [(2, SECOND), (2, SECOND)]

    run(story)


def test_takers_wait_for_a_job_and_readers_for_a_message() -> None:
    async def story(box: Mailbox) -> None:
        assert await still_waits(box.take(0, 0))
        taker = asyncio.create_task(box.take(0, 0))
        reader = asyncio.create_task(box.next_messages(5))
        await asyncio.sleep(NOTHING)
        await box.put(FIRST)
        assert await taker == (1, FIRST)
        assert not reader.done()
        await box.report(1, {"epoch": 1})
        assert await reader == [{"epoch": 1}]
        assert await still_waits(box.take(0, 1)), "it has already taken this job"

    run(story)


def test_a_new_worker_gets_the_open_job_but_not_one_that_is_over() -> None:
    async def story(box: Mailbox) -> None:
        await box.put(FIRST)
        assert await box.take(0, 0) == (1, FIRST)
        assert await box.take(0, 0) == (1, FIRST), "the worker was replaced"
        await box.report(1, {"status": "finished"})
        assert await still_waits(box.take(0, 0))
        await box.put(SECOND)
        assert await box.take(0, 0) == (2, SECOND)

    run(story)


def test_a_job_that_takes_its_workers_down_fails_and_the_next_is_taken() -> None:
    async def story(box: Mailbox) -> None:
        await box.put(FIRST)
        for attempt in (1, 2):
            for rank in (0, 1):
                await box.enter(rank, b"", "group", ("node-7", f"/logs/{attempt}.err") if rank == 0 else None)
            assert await box.whereabouts() == ("group", ("node-7", f"/logs/{attempt}.err"))
            assert await box.attempts() == attempt - 1
            assert await box.take(0, 0) == (1, FIRST)
            assert await box.take(1, 0) == (1, FIRST), "only rank 0 counts"
        await box.enter(0, b"", "group", ("node-7", "/logs/3.err"))
        third = asyncio.create_task(box.take(0, 0))
        assert await box.next_messages(5) == [
            {"status": "failed", "error": "its workers died 2 times; see /logs/2.err on node-7"}
        ]
        assert not third.done()
        assert await box.attempts() == 0, "no job is open"
        await box.put(SECOND)
        assert await third == (2, SECOND)
        assert await box.take(0, 0) == (2, SECOND), "the count starts again with a job"

    run(story, max_attempts=2)


def test_an_output_is_named_with_its_machine_if_that_is_another_one() -> None:
    assert see(None) == ""
    assert see((socket.gethostname(), "/logs/1.err")) == "; see /logs/1.err"
    assert see(("node-7", "/logs/1.err")) == "; see /logs/1.err on node-7"


def test_closing_releases_all_waiting_calls() -> None:
    async def story(box: Mailbox) -> None:
        takers = [asyncio.create_task(box.take(rank, 0)) for rank in (0, 1)]
        await asyncio.sleep(NOTHING)
        await box.close()
        assert await asyncio.gather(*takers) == [None, None]
        assert await box.take(0, 5) is None

    run(story)


@pytest.mark.parametrize("late", [{"epoch": 9}, {"status": "failed", "error": "late"}])
def test_a_report_of_an_old_job_is_ignored(late: dict[str, Any]) -> None:
    async def story(box: Mailbox) -> None:
        await box.put(FIRST)
        await box.take(0, 0)
        await box.report(1, {"status": "finished"})
        await box.report(1, late)
        assert await box.next_messages(1) == [{"status": "finished"}]
        await box.put(SECOND)
        await box.report(1, late)
        assert await box.next_messages(NOTHING) == []
        assert await box.take(0, 1) == (2, SECOND), "it is still open"

    run(story)


def test_a_new_job_discards_messages_of_the_last() -> None:
    async def story(box: Mailbox) -> None:
        await box.put(FIRST)
        await box.report(1, {"epoch": 1})
        await box.put(SECOND)
        assert await box.next_messages(NOTHING) == []

    run(story)


def test_stop_is_the_answer_to_a_report_until_the_next_job() -> None:
    async def story(box: Mailbox) -> None:
        await box.put(FIRST)
        assert not await box.report(1, {"epoch": 1})
        await box.stop(SECOND["trial"])
        assert not await box.report(1, {"epoch": 2}), "that is another trial"
        await box.stop(FIRST["trial"])
        assert await box.report(1, {"epoch": 3})
        await box.put(SECOND)
        assert not await box.report(2, {"epoch": 1})

    run(story)


def test_a_worker_ends_after_its_number_of_jobs_and_the_next_takes_over() -> None:
    async def story(box: Mailbox) -> None:
        await box.enter(0, "first worker")
        for number, job in enumerate([FIRST, SECOND], start=1):
            await box.put(job)
            assert await box.take(0, number - 1) == (number, job)
            await box.report(number, {"status": "finished"})
        await box.put(FIRST)
        assert await box.take(0, 2) is None
        assert not await box.is_closed()
        await box.enter(0, "second worker")
        assert await box.take(0, 0) == (3, FIRST)

    run(story, lasting=2)


def test_a_job_that_is_silent_for_too_long_fails_and_its_workers_are_named() -> None:
    async def story(box: Mailbox) -> None:
        for rank, worker in enumerate(["a", "b"]):
            await box.enter(rank, worker)
        assert await box.silent(0.0) == [], "no job is open"
        await box.put(FIRST)
        await asyncio.sleep(NOTHING)
        assert await box.silent(0.0) == [], "the workers have not started"
        await box.take(0, 0)
        assert await box.silent(60.0) == []
        await asyncio.sleep(5 * NOTHING)
        await box.report(1, {"epoch": 1})
        assert await box.silent(5 * NOTHING) == []
        await box.give_up(5 * NOTHING)
        assert await box.next_messages(1) == [{"epoch": 1}], "it is not late"
        await asyncio.sleep(6 * NOTHING)
        assert await box.silent(5 * NOTHING) == ["a", "b"]
        await box.give_up(5 * NOTHING)
        failed = {"status": "failed", "error": "hangs: nothing was reported for 0.05 seconds"}
        assert await box.next_messages(1) == [failed]
        await box.report(1, {"status": "finished"})
        assert await box.next_messages(NOTHING) == [], "it woke up too late"

    run(story)


def test_leaving_a_machine_that_is_drained_is_no_death() -> None:
    async def story(box: Mailbox) -> None:
        await box.put(FIRST)
        for rank, node in ((0, "one"), (1, "two")):
            await box.enter(rank, b"", node=node)
            assert await box.take(rank, 0) == (1, FIRST)
        assert await box.nodes() == {"one", "two"}
        assert not await box.is_leaving()
        await box.leave()
        assert await box.is_leaving()
        await box.left()
        assert await box.nodes() == set(), "the next group would leave at once"
        await box.enter(0, b"", node="three")
        assert not await box.is_leaving()
        assert await box.take(0, 0) == (1, FIRST)
        assert await box.next_messages(NOTHING) == []

    run(story, max_attempts=1)
