"""One line and one event per step of a call."""

from __future__ import annotations

import logging

import pytest

from voiceops.agentkit import CallEvent, lifecycle, subscribe
from voiceops.agentkit.lifecycle import Lifecycle


def test_steps_carry_the_call_the_time_since_the_last_step_and_since_the_offer() -> None:
    now = [10.0]
    steps = Lifecycle("AJ_1", pii={"room": "frontdesk-42"}, offered_s_ago=0.2, clock=lambda: now[0])

    now[0] = 10.1
    first = steps.emit(lifecycle.INCOMING)
    now[0] = 10.4
    second = steps.emit(lifecycle.CONNECTED)

    assert (first.duration_s, first.total_s) == (0.3, 0.3)
    assert (second.duration_s, second.total_s) == (0.3, 0.6)
    assert steps.seen(lifecycle.CONNECTED)
    assert not steps.seen(lifecycle.ENDED)


def test_room_names_stand_only_under_pii(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        Lifecycle("AJ_1", pii={"room": "frontdesk-42"}).emit(lifecycle.CONNECTED)

    record = caplog.records[-1]
    assert record.getMessage() == "call connected"
    assert vars(record)["pii"] == {"room": "frontdesk-42"}
    others = {name: value for name, value in vars(record).items() if name != "pii"}
    assert "frontdesk-42" not in repr(others)


def test_a_listener_gets_the_events_until_it_unsubscribes() -> None:
    events: list[CallEvent] = []
    unsubscribe = subscribe(events.append)
    steps = Lifecycle("AJ_1", pii={})
    steps.emit(lifecycle.CONNECTED)
    unsubscribe()
    steps.emit(lifecycle.ENDED)

    assert [event.step for event in events] == [lifecycle.CONNECTED]


def test_a_listener_that_raises_is_logged_and_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_event: CallEvent) -> None:
        raise RuntimeError("broken listener")

    unsubscribe = subscribe(broken)
    try:
        Lifecycle("AJ_1", pii={}).emit(lifecycle.ENDED)
    finally:
        unsubscribe()

    assert "a listener for call events failed" in caplog.text
