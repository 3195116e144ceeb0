"""Calls out of webhooks: when the agent was heard, how each ended, what is left out."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from voiceops.history.calls import CallTracker
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
