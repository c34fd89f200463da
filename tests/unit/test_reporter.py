"""Test that short epochs travel together, within the time that is stated, and that an end does not wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from st3sweep.execution import reporter
from st3sweep.execution.mailbox import Mailbox
from st3sweep.execution.reporter import Reporter

LONG = 60.0
FINISHED = {"status": "finished"}


def epoch(number: int) -> dict[str, Any]:
    return {"epoch": number}


@pytest.fixture
def sent() -> list[tuple[int, list[dict[str, Any]]]]:
    return []


@pytest.fixture
def made(sent: list[Any]) -> Reporter:
    return Reporter(lambda number, messages: bool(sent.append((number, messages))))


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_short_epochs_travel_with_the_end(made: Reporter, sent: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "GATHER_SECONDS", LONG)
    made.start(1)
    made.report(epoch(1))
    assert sent == [(1, [epoch(1)])], "nothing was sent before"
    made.report(epoch(2))
    made.report(epoch(3))
    assert len(sent) == 1
    made.report(FINISHED)
    assert sent[1:] == [(1, [epoch(2), epoch(3), FINISHED])]
    made.start(2)
    made.report(epoch(1))
    assert len(sent) == 2, "a trial shorter than that is sent as one"
    made.report(FINISHED)
    assert sent[2:] == [(2, [epoch(1), FINISHED])]


def test_an_epoch_is_not_held_until_the_next(made: Reporter, sent: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "GATHER_SECONDS", 0.02)
    made.start(1)
    made.report(epoch(1))
    made.report(epoch(2))
    wait_for(lambda: len(sent) == 2)
    assert sent[1] == (1, [epoch(2)])
    time.sleep(0.03)
    made.report(epoch(3))
    assert sent[2] == (1, [epoch(3)]), "a longer epoch is sent at once"


def test_a_wish_to_stop_is_heard_with_the_next_call_and_ends_with_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "GATHER_SECONDS", 0.02)
    box = Mailbox()
    made = Reporter(box.report)
    box.put({"trial": 7})
    made.start(1)
    assert not made.report(epoch(1))
    box.stop(7)
    wait_for(lambda: made.report(epoch(2)))
    made.report(FINISHED)
    assert box.next_messages(1)[-1] == FINISHED
    box.put({"trial": 8})
    made.start(2)
    time.sleep(0.03)
    assert not made.report(epoch(1))


def test_what_could_not_be_sent_goes_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "GATHER_SECONDS", 0.02)
    sent, failing = [], [False]

    def send(_: int, messages: list[dict[str, Any]]) -> bool:
        if failing[0]:
            raise ConnectionError
        sent.extend(messages)
        return False

    made = Reporter(send)
    made.start(1)
    made.report(epoch(1))
    failing[0] = True
    made.report(epoch(2))
    time.sleep(0.06)
    with pytest.raises(ConnectionError):
        made.report(FINISHED)
    failing[0] = False
    made.report(FINISHED)
    assert sent[:3] == [epoch(1), epoch(2), FINISHED]
