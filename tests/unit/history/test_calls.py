"""Calls out of webhooks: when the agent was heard, how each ended, what is left out."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceops.history.calls import CallTracker, LoggedCallStep
from voiceops.model.history import CallRecord
from voiceops.model.monitor_events import WebhookEvent


def webhook(
    kind: str, at: float, sid: str = "", *, agent: bool = False, reason: str = "", room: str = "r"
) -> WebhookEvent:
    return WebhookEvent(
        at=at,
        host="web1",
        delivery=f"{kind}{at}{sid}",
        kind=kind,
        room=room,
        room_sid=f"RM_{room}",
        participant_sid=sid,
        is_agent=agent,
        reason=reason,
    )


def joined(sid: str, at: float) -> WebhookEvent:
    return webhook("participant_joined", at, sid, agent=sid.startswith("A"))


def left(sid: str, at: float, reason: str = "CLIENT_INITIATED") -> WebhookEvent:
    return webhook("participant_left", at, sid, agent=sid.startswith("A"), reason=reason)


def heard(sid: str, at: float) -> WebhookEvent:
    return webhook("track_published", at, sid, agent=False)  # LiveKit does not say of tracks whose they are


def step(
    kind: str, at: float, sid: str = "", *, job: str = "AJ", room: str = "r", **more: Any
) -> LoggedCallStep:
    return LoggedCallStep(at=at, host="web1", kind=kind, call_id=job, room=room, caller_sid=sid, **more)


def last_of(tracker: CallTracker, *events: WebhookEvent | LoggedCallStep) -> dict[str, CallRecord]:
    """Call -> its last record."""
    last: dict[str, CallRecord] = {}
    for event in events:
        changed = tracker.on_step(event) if isinstance(event, LoggedCallStep) else tracker.on_webhook(event)
        last.update((call.id, call) for call in changed)
    return last


def ends_of(
    *events: WebhookEvent, tracker: CallTracker | None = None
) -> dict[str, tuple[str | None, float | None]]:
    """Call -> outcome and answer time, as the last record of each says."""
    tracker = tracker or CallTracker()
    last: dict[str, CallRecord] = {}
    for event in events:
        last.update((call.id, call) for call in tracker.on_webhook(event))
    return {name: (call.outcome, call.answer_s) for name, call in last.items()}


def test_a_call_is_answered_when_its_agent_publishes() -> None:
    assert ends_of(joined("P", 10.0), joined("A", 10.3), heard("A", 10.5), left("P", 60.0)) == {
        "P": ("answered", 0.5)
    }


def test_who_waits_and_leaves_was_not_answered_and_who_leaves_at_once_has_not_waited() -> None:
    assert ends_of(joined("P", 10.0), left("P", 40.0), joined("Q", 50.0), left("Q", 51.0)) == {
        "P": ("unanswered", None),
        "Q": ("abandoned", None),
    }


def test_an_agent_that_is_lost_drops_the_call_and_one_that_says_goodbye_does_not() -> None:
    begin = (joined("P", 10.0), joined("A", 10.3), heard("A", 10.5))
    assert ends_of(*begin, left("A", 20.0, "CONNECTION_TIMEOUT"), left("P", 40.0))["P"][0] == "dropped"
    assert ends_of(*begin, left("A", 20.0, "CLIENT_INITIATED"), left("P", 40.0))["P"][0] == "answered"
    again = (left("A", 20.0, "CONNECTION_TIMEOUT"), joined("A2", 22.0), heard("A2", 22.2), left("P", 40.0))
    assert ends_of(*begin, *again)["P"] == ("answered", 0.5)


def test_who_joins_an_agent_that_is_there_is_answered_at_once() -> None:
    assert ends_of(joined("A", 1.0), heard("A", 1.2), joined("P", 10.0), left("P", 11.0)) == {
        "P": ("answered", 0.0)
    }


def test_the_end_of_a_room_ends_its_calls() -> None:
    assert ends_of(
        joined("P", 10.0), joined("A", 10.2), heard("A", 10.5), webhook("room_finished", 30.0)
    ) == {"P": ("answered", 0.5)}


def test_webhooks_out_of_order_and_of_unknown_people_do_no_harm() -> None:
    early = (left("Q", 40.0), heard("A", 9.0), joined("P", 10.0), joined("P", 10.0), joined("A", 10.0))
    assert ends_of(*early) == {"P": (None, 0.0)}
    assert ends_of(left("P", 40.0), joined("P", 10.0)) == {"P": ("unanswered", None)}
    assert ends_of(left("A", 9.0), joined("A", 8.0), heard("A", 8.5), joined("P", 10.0)) == {
        "P": (None, None)
    }


@settings(max_examples=300, deadline=None)
@given(
    st.permutations(
        (joined("P", 10.0), joined("A", 10.3), heard("A", 10.5), left("P", 60.0), left("A", 80.0))
    )
)
def test_in_any_order_a_call_ends_once(events: list[WebhookEvent]) -> None:
    tracker = CallTracker()
    ended = [one for event in events for one in tracker.on_webhook(event) if one.outcome is not None]
    assert [one.id for one in ended] == ["P"]
    assert tracker.on_nobody(1000.0) == []


def test_synthetic_calls_are_recorded_by_who_places_them() -> None:
    assert CallTracker().on_webhook(webhook("participant_joined", 1.0, "P", room="voiceops-call-1")) == []
    named = [
        msgspec.structs.replace(event, identity="voiceops-caller-1")
        for event in (joined("P", 10.0), heard("P", 10.2), left("P", 20.0))
    ]
    assert ends_of(joined("A", 9.0), heard("A", 9.5), *named) == {}


def test_calls_of_an_earlier_monitor_end_by_their_webhook_or_when_nobody_is_left() -> None:
    first = CallTracker()
    calls = [*first.on_webhook(joined("P", 10.0)), *first.on_webhook(joined("Q", 10.0))]
    tracker = CallTracker()
    tracker.adopt(calls)

    assert ends_of(left("P", 40.0), tracker=tracker) == {"P": ("unanswered", None)}
    assert tracker.on_nobody(39.0) == [], "a call that has just begun may not be counted yet"
    (other,) = tracker.on_nobody(50.0)
    assert (other.id, other.outcome, other.detail) == ("Q", "unanswered", "end not seen")
    assert tracker.on_nobody(90.0) == []


def test_without_webhooks_the_agent_s_log_tells_of_a_call() -> None:
    call = last_of(
        CallTracker(),
        step("caller joined", 10.4, "P", present_s=0.4),
        step("call ready", 10.9),
        step("caller left", 60.0, "P"),
        step("call ended", 63.0, reason="caller left"),
    )["P"]
    assert (call.host, call.kind, call.caller) == ("web1", "caller", None)
    assert (call.started_at, call.ended_at) == (10.0, 60.0)
    assert (call.outcome, call.answer_s) == ("answered", 0.9)


def test_a_caller_whose_agent_never_gets_ready_is_not_answered() -> None:
    last = last_of(
        CallTracker(),
        step("caller joined", 10.0, "P"),
        step("caller left", 40.0, "P"),
        step("caller joined", 50.0, "Q", job="AJ2"),
        step("caller left", 51.0, "Q", job="AJ2"),
    )
    assert {name: call.outcome for name, call in last.items()} == {"P": "unanswered", "Q": "abandoned"}


def test_who_joins_an_agent_that_listens_is_answered_at_once() -> None:
    last = last_of(CallTracker(), step("call ready", 9.0), step("caller joined", 10.0, "P"))
    assert last["P"].answer_s == 0.0


def test_a_room_that_closes_ends_its_calls_and_an_agent_that_fails_does_not() -> None:
    closed = last_of(
        CallTracker(), step("caller joined", 10.0, "P"), step("call ended", 30.0, reason="room closed")
    )
    assert closed["P"].ended_at == 30.0
    tracker = CallTracker()
    failed = last_of(
        tracker, step("caller joined", 10.0, "P"), step("call ended", 12.0, reason="entrypoint failed")
    )
    assert failed["P"].ended_at is None
    again = last_of(
        tracker,
        step("caller joined", 14.0, "P", job="AJ2", present_s=1.0),
        step("call ready", 15.0, job="AJ2"),
        step("caller left", 60.0, "P", job="AJ2"),
    )
    assert (again["P"].started_at, again["P"].answer_s, again["P"].outcome) == (10.0, 5.0, "answered")


def test_a_call_that_webhooks_tell_of_is_theirs() -> None:
    tracker = CallTracker()
    webhooks = last_of(tracker, joined("P", 10.0), joined("A", 10.3), heard("A", 10.5), left("P", 60.0))
    steps = (
        step("caller joined", 10.4, "P", present_s=0.4),
        step("call ready", 10.9),
        step("caller left", 60.0, "P"),
    )
    assert webhooks["P"].outcome == "answered"
    assert last_of(tracker, *steps) == {}


def test_a_webhook_that_comes_after_the_log_goes_on_with_the_same_call() -> None:
    last = last_of(CallTracker(), step("caller joined", 10.0, "P"), step("call ready", 11.0), left("P", 60.0))
    assert list(last) == ["P"]
    assert (last["P"].ended_at, last["P"].answer_s) == (60.0, 1.0)


def test_the_end_of_a_call_whose_agent_was_killed_comes_with_a_check_that_counts_nobody() -> None:
    tracker = CallTracker()
    last_of(tracker, step("caller joined", 10.0, "P"), step("call ready", 11.0))
    (ended,) = tracker.on_nobody(100.0)
    assert (ended.id, ended.outcome, ended.detail) == ("P", "answered", "end not seen")


def test_synthetic_calls_are_left_out_of_the_log_too() -> None:
    assert last_of(CallTracker(), step("caller joined", 10.0, "P", room="voiceops-call-1")) == {}
