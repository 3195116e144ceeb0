"""Which conditions hold: each in its case, and none in the nearest harmless one."""

from __future__ import annotations

import msgspec
import pytest

from voiceops.alerts.conditions import AlertInputs, MachineFacts, conditions
from voiceops.model.monitor_events import (
    AlertRaised,
    CheckSummary,
    Incident,
    MonitorEvent,
    ProbeCall,
    RoomCounts,
    WebhookEvent,
)
from voiceops.model.settings import AlertSettings

NOW = 1_000_000.0
SETTINGS = AlertSettings(max_rooms=5)
DAY_S = 86_400.0


def check(workers: int | None = 1, rooms: int = 1) -> CheckSummary:
    return CheckSummary(
        at=NOW, host="h", ok=True, took_s=0.1, worker_count=workers, rooms=RoomCounts(total=rooms)
    )


def call(number: int, *, answered: bool, at: float = NOW - 100) -> list[MonitorEvent]:
    steps = [("participant_joined", "P", False, at)]
    if answered:
        steps.append(("track_published", "A", True, at + 0.4))
    steps.append(("participant_left", "P", False, at + 30))
    return [
        WebhookEvent(
            at=moment,
            host="h",
            delivery=f"{number}{kind}",
            kind=kind,
            room=f"r{number}",
            participant_sid=f"{sid}{number}",
            is_agent=agent,
        )
        for kind, sid, agent, moment in steps
    ]


def holding(*events: MonitorEvent, machine: MachineFacts | None = None) -> dict[str, str]:
    inputs = AlertInputs()
    for event in events:
        inputs.record(event)
    found = conditions(inputs, machine or MachineFacts(), SETTINGS, NOW)
    return {one.alert: one.sentence for one in found}


def calls(answered: int, failed: int) -> list[MonitorEvent]:
    return [
        event for number in range(answered + failed) for event in call(number, answered=number < answered)
    ]


def test_a_healthy_stack_and_one_that_is_not_known_yet_are_no_alert() -> None:
    assert holding() == {}
    assert holding(check(), check(), *calls(20, 1), ProbeCall(at=NOW, host="h", ok=True)) == {}


def test_more_rooms_than_are_allowed() -> None:
    assert "6 rooms, more than alerts.max_rooms (5)" in holding(check(rooms=6))["max-rooms"]
    assert holding(check(rooms=5)) == {}


def test_no_worker_holds_from_the_second_check_on_with_the_sentence_of_the_incident_behind_it() -> None:
    assert holding(check(workers=0)) == {}
    assert holding(check(workers=0), check(workers=None)) == {}
    died = Incident(
        at=NOW,
        host="h",
        incident="i",
        cause="service-dead",
        subject="agent",
        sentence="agent ended with exit code 1.",
        began_at=NOW,
    )
    told = holding(died, check(workers=0), check(workers=0))
    assert told["no-worker"].endswith("nobody answers new calls. agent ended with exit code 1.")
    assert holding(check(workers=0), check(workers=0), check(workers=1)) == {}


def test_an_answer_rate_below_the_limit_of_enough_calls() -> None:
    assert "18 of 20 calls of the last 10 minutes were answered, 90%" in holding(*calls(18, 2))["answer-rate"]
    assert holding(*calls(19, 1)) == {}
    assert holding(*calls(0, 9)) == {}, "too few to judge"
    old = [event for number in range(20) for event in call(number, answered=False, at=NOW - 700)]
    assert holding(*old) == {}, "before the window"


def test_two_probes_that_fail_in_a_row() -> None:
    good, bad = ProbeCall(at=NOW, host="h", ok=True), ProbeCall(at=NOW, host="h", ok=False, error="no-agent")
    assert "no-agent" in holding(bad, bad)["probe"]
    assert holding(bad, good, bad) == {}


def test_what_the_monitor_raises_holds_until_it_resolves_it() -> None:
    raised = AlertRaised(
        at=NOW, host="h", alert="restart-limit", subject="agent", sentence="It ended 10 times."
    )
    over = AlertRaised(at=NOW, host="h", alert="restart-limit", subject="agent", resolved=True)
    assert holding(raised) == {"restart-limit": "It ended 10 times."}
    assert holding(raised, over) == {}


@pytest.mark.parametrize(
    ("machine", "alert", "words"),
    [
        (MachineFacts(disk_free_bytes=400_000_000), "disk", "Only 400 MB are free"),
        (MachineFacts(clock_skew_s=45.0), "clock", "45 s behind"),
        (MachineFacts(certificate_expires_at=NOW + 5 * DAY_S), "certificate", "expires in 5 days"),
        (MachineFacts(certificate_error="certificate has expired"), "certificate", "certificate has expired"),
    ],
)
def test_what_was_observed_of_the_machine(machine: MachineFacts, alert: str, words: str) -> None:
    assert words in holding(machine=machine)[alert]


def test_a_good_machine() -> None:
    good = MachineFacts(disk_free_bytes=10**10, clock_skew_s=-2.0, certificate_expires_at=NOW + 60 * DAY_S)
    assert holding(machine=good) == {}


def incident(cause: str, sentence: str, fix: str, *, subject: str = "") -> Incident:
    return Incident(
        at=NOW - 50,
        host="h",
        incident=cause,
        cause=cause,
        subject=subject,
        sentence=sentence,
        fix=fix,
        began_at=NOW - 200,
    )


RAISED = incident("calls-failed", "The last 2 calls of agent failed: KeyError.", "correct agent.py:31")
BAD_PROBE = ProbeCall(at=NOW, host="h", ok=False, error="no-agent")


@pytest.mark.parametrize(
    ("alert", "events", "cause"),
    [
        ("answer-rate", calls(5, 5), RAISED),
        ("probe", [BAD_PROBE, BAD_PROBE], RAISED),
        (
            "no-worker",
            [check(workers=0), check(workers=0)],
            incident("service-dead", "No worker runs.", "inv start", subject="agent"),
        ),
        ("max-rooms", [check(rooms=6)], incident("orphan-room", "A node died.", "inv cleanup-rooms")),
    ],
)
def test_an_alert_has_the_sentence_and_the_fix_that_why_has_for_its_cause(
    alert: str, events: list[MonitorEvent], cause: Incident
) -> None:
    inputs = AlertInputs()
    for event in (*events, RAISED, cause):
        inputs.record(event)
    (told,) = [one for one in conditions(inputs, MachineFacts(), SETTINGS, NOW) if one.alert == alert]
    assert told.sentence.endswith(cause.sentence)
    assert told.fix == cause.fix


def test_failed_calls_are_still_explained_when_the_next_call_was_answered() -> None:
    over = msgspec.structs.replace(RAISED, ended_at=NOW - 50)
    long_ago = msgspec.structs.replace(RAISED, ended_at=NOW - 7200)
    assert "KeyError" in holding(*calls(5, 5), RAISED, over)["answer-rate"]
    assert "KeyError" not in holding(*calls(5, 5), RAISED, long_ago)["answer-rate"]
    assert "KeyError" not in holding(BAD_PROBE, BAD_PROBE, RAISED, over)["probe"]
